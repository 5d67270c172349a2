"""Answers like the review app, with a policy of its own; can be slow, and can stand still for a while."""

import argparse
import asyncio
import time

BODY = (
    b'{"results": [{"flagged": false, "categories": {}, '
    b'"headend": {"policy": {"name": "another"}, "evidence": {}}}]}'
)
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nx-headend-site: here\r\n"
    b"x-envoy-attempt-count: 1\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)
)


class Server:
    def __init__(self, options):
        self.options, self.asked = options, False

    async def serve(self):
        server = await asyncio.start_server(self.talk, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    async def talk(self, reader, writer):
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                if head.startswith(b"post"):
                    await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
                    self.stand_still_later()
                    await asyncio.sleep(self.options.delay)
                writer.write(ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def stand_still_later(self):
        """Counted from the first request on: the whole process stops, as in a long collection of garbage."""
        if not self.asked and self.options.still_for:
            asyncio.get_running_loop().call_later(
                self.options.still_after, time.sleep, self.options.still_for
            )
        self.asked = True


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    for name in ("delay", "still-after", "still-for"):
        parser.add_argument(f"--{name}", type=float, default=0.0)
    asyncio.run(Server(parser.parse_args()).serve())
