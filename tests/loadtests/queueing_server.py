"""Answers like the review app: so many at a time, each after a fixed time; when too many wait, it refuses."""

import asyncio
import sys

SERVICE_S, SERVERS, QUEUE = 0.1, 2, 2
BODY = (
    b'{"results": [{"flagged": false, "categories": {}, '
    b'"headend": {"policy": {"name": "another"}, "evidence": {}}}]}'
)
OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
FULL = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n"


class Server:
    def __init__(self):
        self.places, self.inside = asyncio.Semaphore(SERVERS), 0

    async def talk(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"post"):
                    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                    writer.write(await self.answer())
                else:
                    writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def answer(self):
        if self.inside >= SERVERS + QUEUE:
            return FULL
        self.inside += 1
        async with self.places:
            await asyncio.sleep(SERVICE_S)
        self.inside -= 1
        return OK


async def main():
    server = await asyncio.start_server(Server().talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
