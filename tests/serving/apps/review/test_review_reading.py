"""Text in pictures is read by the real models, however the picture is turned, cut or sized."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.bundle import Bundle
from models.catalog_index import load_card
from serving.apps.review.ocr.reader import DIRECTION, LINES_A_BATCH, RECOGNISER, Line, Reader

pytestmark = pytest.mark.build

CAPTIONS = [
    "新闻频道",
    "19:58直播",
    "加微信领取首存优惠",
    "澳門新葡京百家樂",
    "今天晚上八点现场直播决赛",
    "The final, live at eight tonight",
]


@pytest.fixture(scope="session")
def reader(bundles: dict[str, Bundle]) -> Reader:
    return Reader(bundles["ppocr-rec"].file("labels.txt"), ThreadPoolExecutor(2))


async def read(reader: Reader, runtime: Any, image: Image.Image) -> list[Line]:
    return [line for line in await reader.read(np.asarray(image), runtime) if line.confidence > 0.6]


async def test_a_frame_is_read_in_order(reader: Reader, runtime: Any, frame: Image.Image) -> None:
    lines = await read(reader, runtime, frame)
    assert [line.text.replace("澳门", "澳門") for line in lines] == CAPTIONS
    assert {line.direction for line in lines} == {0}
    # Drawn at (60, 40), 44 pixels high, four characters.
    np.testing.assert_allclose(lines[0].quad, [[60, 42], [236, 42], [236, 88], [60, 88]], atol=10)


@pytest.mark.parametrize(
    ("turn", "direction"),
    [
        (Image.Transpose.ROTATE_180, 180),
        (Image.Transpose.ROTATE_90, 270),  # Pillow turns anticlockwise
        (Image.Transpose.ROTATE_270, 90),
    ],
)
async def test_turned_pictures(
    reader: Reader, runtime: Any, frame: Image.Image, turn: Image.Transpose, direction: int
) -> None:
    lines = await read(reader, runtime, frame.transpose(turn))
    assert {line.text for line in lines} >= {"加微信领取首存优惠", "今天晚上八点现场直播决赛"}
    assert {line.direction for line in lines} == {direction}


async def test_a_tilted_picture(reader: Reader, runtime: Any, frame: Image.Image) -> None:
    texts = {line.text for line in await read(reader, runtime, frame.rotate(7, expand=True))}
    assert texts >= {"新闻频道", "加微信领取首存优惠", "今天晚上八点现场直播决赛"}


async def test_text_up_to_the_edges(reader: Reader, runtime: Any, frame: Image.Image) -> None:
    (line,) = await read(reader, runtime, frame.crop((356, 588, 896, 642)))
    assert line.text == "今天晚上八点现场直播决赛"


async def test_a_long_picture_stays_legible(reader: Reader, runtime: Any, frame: Image.Image) -> None:
    tall = Image.new("RGB", (1280, 9000), (90, 90, 90))
    for y in (0, 8000):
        tall.paste(frame.crop((0, 560, 1280, 720)), (0, y))
    texts = [line.text for line in await read(reader, runtime, tall)]
    assert texts.count("今天晚上八点现场直播决赛") == 2


async def test_a_picture_without_text(reader: Reader, runtime: Any) -> None:
    assert await read(reader, runtime, Image.new("RGB", (320, 200), (30, 60, 90))) == []
    assert await read(reader, runtime, Image.new("RGB", (1, 1))) == []


def test_batches_are_not_larger_than_triton_takes() -> None:
    for name in (DIRECTION, RECOGNISER):
        assert load_card(name).serving.max_batch_size >= LINES_A_BATCH
