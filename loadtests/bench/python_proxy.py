"""A proxy in Python: `python_proxy.py LISTEN UPSTREAM`, both `host:port`. Bodies stream both ways."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Mapping

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

_OF_THE_CONNECTION = {"host", "connection", "keep-alive", "transfer-encoding", "content-length"}


def main(listen: str, upstream: str) -> None:
    """Serve until a signal ends it."""
    host, _, port = listen.rpartition(":")
    app = web.Application()
    app.cleanup_ctx.append(_session)
    app.router.add_route("*", "/{path:.*}", _forward)
    app[_UPSTREAM] = f"http://{upstream}"
    web.run_app(app, host=host, port=int(port), print=None, access_log=None)


_SESSION = web.AppKey("session", ClientSession)
_UPSTREAM = web.AppKey("upstream", str)


async def _session(app: web.Application) -> AsyncIterator[None]:
    async with ClientSession(timeout=ClientTimeout(600), connector=TCPConnector(limit=0)) as session:
        app[_SESSION] = session
        yield


async def _forward(request: web.Request) -> web.StreamResponse:
    async with request.app[_SESSION].request(
        request.method,
        request.app[_UPSTREAM] + request.path_qs,
        headers={
            key: value for key, value in request.headers.items() if key.lower() not in _OF_THE_CONNECTION
        },
        data=request.content if request.can_read_body else None,
        allow_redirects=False,
    ) as found:
        answer = web.StreamResponse(status=found.status, headers=_end_to_end(found.headers))
        answer.content_length = found.content_length
        await answer.prepare(request)
        async for chunk in found.content.iter_any():
            await answer.write(chunk)
        await answer.write_eof()
        return answer


def _end_to_end(headers: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key.lower() not in _OF_THE_CONNECTION}


if __name__ == "__main__":
    main(*sys.argv[1:3])
