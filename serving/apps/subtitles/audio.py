"""Sound out of any container and codec that FFmpeg (through PyAV) opens: mono, 16 kHz, float32, in blocks.

Memory is bounded by the block's length, whatever the file's. Times are kept: where a file's first sound comes
after its first picture, or a gap is in its timestamps, silence is filled in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np
import numpy.typing as npt

from serving.apps.errors import AppError, TooLargeError

RATE = 16_000
BLOCK = 960 * 512
"""Samples of a block, about 30 s: a whole number of the voice activity model's windows."""
LONGEST_S = 6 * 3600
"""Longer files are refused: nobody waits for them in one request."""

_GAP_S = 0.1
"""Smaller gaps in timestamps are rounding."""
_LONGEST_GAP_S = 600
"""Larger ones are a jump of the clock, not a silence."""
_MOST_BROKEN = 0.5
"""Of a file's packets; a file more broken than this is refused rather than half understood."""
_PLAYLISTS = {"hls", "dash", "concat", "sdp", "rtsp", "rtp", "imf"}

Floats = npt.NDArray[np.float32]


class InvalidFileError(AppError):
    """The upload cannot be understood as sound."""

    def __init__(self, message: str, code: str, *, status: int = 400) -> None:
        super().__init__(message, status=status, param="file", code=code)


def blocks(file: BinaryIO, *, size: int = BLOCK) -> Iterator[Floats]:
    """The sound of `file`, FP32 `[size]` each, the last one shorter.

    Raises `InvalidFileError` with what is wrong (400; 415 for a codec that is not built in), or
    `TooLargeError` (413) when it lasts longer than `LONGEST_S`. A long file may fail after its first blocks.
    """
    held: list[Floats] = []
    length = total = 0
    for piece in _pieces(file):
        total += len(piece)
        if total > LONGEST_S * RATE:
            raise _too_long()
        held.append(piece)
        length += len(piece)
        if length < size:
            continue
        joined = np.concatenate(held)
        whole = length - length % size
        for start in range(0, whole, size):
            yield joined[start : start + size]
        held, length = [joined[whole:]], length - whole
    if length:
        yield np.concatenate(held)


def _pieces(file: BinaryIO) -> Iterator[Floats]:
    with _open(file) as container:
        stream = _audio_stream(container)
        begin = (container.start_time or 0) / av.time_base
        # Second by second: a codec's own frames are so short that handling them costs more than decoding.
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE, frame_size=RATE)
        clock = _Clock(begin)
        for frame in _frames(container, stream):
            silence = clock.silence_before(frame)
            if silence:
                yield np.zeros(silence, np.float32)
            # Timestamps are kept by the clock; with them the resampler would refuse a jump.
            frame.pts = None
            for out in resampler.resample(frame):
                yield _samples(out)
        for out in resampler.resample(None):
            yield _samples(out)


def _samples(frame: av.AudioFrame) -> Floats:
    samples: Floats = frame.to_ndarray()[0].astype(np.float32, copy=False)
    # A float source may hold anything; a model must not see infinities.
    return np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0)


def _open(file: BinaryIO) -> av.container.InputContainer:
    file.seek(0, 2)
    if not file.tell():
        raise InvalidFileError("The file is empty.", "empty_file")
    file.seek(0)
    try:
        # An upload must not make this machine open other files or addresses: a playlist gets no protocol.
        container = av.open(file, mode="r", options={"protocol_whitelist": "none"}, metadata_errors="ignore")
    except (av.error.FFmpegError, ValueError) as error:
        raise _broken() from error
    if _PLAYLISTS & set(container.format.name.split(",")):
        container.close()
        raise InvalidFileError("The file is a playlist: send the media itself.", "playlist")
    return container


def _audio_stream(container: av.container.InputContainer) -> av.AudioStream:
    if container.duration is not None and container.duration / av.time_base > LONGEST_S:
        raise _too_long()
    if not container.streams.audio:
        found = ", ".join(sorted({stream.type for stream in container.streams})) or "nothing"
        raise InvalidFileError(
            f"The file has no audio stream ({container.format.name} with {found}).", "no_audio_stream"
        )
    stream = container.streams.audio[0]
    if stream.codec_context is None:
        raise InvalidFileError(
            "The audio codec of the file is not supported.", "unsupported_codec", status=415
        )
    return stream


def _frames(container: av.container.InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    """All frames that decode; broken packets are passed over while most are whole."""
    decoded = broken = 0
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            break
        except av.error.FFmpegError:  # the container ends in the middle, or is damaged from here on
            break
        try:
            frames = packet.decode()
        except av.error.FFmpegError:
            broken += 1
            continue
        decoded += bool(frames)
        yield from frames
    if not decoded or broken > _MOST_BROKEN * (decoded + broken):
        raise _broken()


class _Clock:
    """Where decoded sound belongs in time, by its timestamps."""

    def __init__(self, begin: float) -> None:
        self._now = begin

    def silence_before(self, frame: av.AudioFrame) -> int:
        """Samples of silence to put before `frame`."""
        gap = 0.0 if frame.time is None else frame.time - self._now
        silent = _GAP_S < gap <= _LONGEST_GAP_S
        if silent or abs(gap) > _LONGEST_GAP_S:
            self._now += gap
        self._now += frame.samples / frame.sample_rate
        return int(gap * RATE) if silent else 0


def _broken() -> InvalidFileError:
    return InvalidFileError(
        "The file is not audio or video that FFmpeg can read: it is damaged, cut off or something else.",
        "invalid_file",
    )


def _too_long() -> TooLargeError:
    return TooLargeError(f"The file lasts longer than the {LONGEST_S // 3600} hours accepted.", param="file")
