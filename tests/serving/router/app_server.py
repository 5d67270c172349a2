"""A small real server in the place of a site's apps: `app_server.py PORT SITE FRONT_DOOR_URL`.

Answers with what it saw. Told to by headers, it refuses as a full queue does (`x-test-busy: SITE`), works
for a while (`x-test-seconds`), calls a path through its own front door as apps do (`x-test-call: PATH`), or
tells what came with the request (`x-test-headers: yes`).
"""

from __future__ import annotations

import asyncio
import sys

import aiohttp
from aiohttp import web

PORT, SITE, FRONT_DOOR = int(sys.argv[1]), sys.argv[2], sys.argv[3]
HOP = "x-headend-hop"


async def ready(_: web.Request) -> web.Response:
    return web.Response(text="ready")


async def answer(request: web.Request) -> web.Response:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    if request.headers.get("x-test-busy") == SITE:
        return web.json_response({"error": {"message": "the queue is full"}}, status=503)
    await asyncio.sleep(float(request.headers.get("x-test-seconds", 0)))
    seen = {"site": SITE, "bytes": size, "hop": request.headers.get(HOP)}
    if "x-test-headers" in request.headers:
        seen["headers"] = {name.lower(): value for name, value in request.headers.items()}
    if path := request.headers.get("x-test-call"):
        headers = {HOP: seen["hop"]} if seen["hop"] else {}
        async with (
            aiohttp.ClientSession() as session,
            session.get(FRONT_DOOR + path, headers=headers) as call,
        ):
            seen["call"] = {"status": call.status, "site": call.headers.get("x-headend-site")}
    return web.json_response(seen)


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/-/ready/{app}", ready)
    app.router.add_post("/v1/{path:.*}", answer)
    web.run_app(app, host="127.0.0.1", port=PORT, print=None, shutdown_timeout=1)
