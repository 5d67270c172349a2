"""A small real part for supervisor tests: answers 200 on its port, and misbehaves when told to.

`part.py PORT [stubborn] [daemons PIDFILE] [unready FILE] [hung FILE] [late FILE]`
- stubborn: ignores SIGTERM.
- daemons PIDFILE: leaves a double-forked child in a session of its own that ignores SIGTERM.
- unready FILE: answers 503 while FILE exists.
- hung FILE: does not answer at all while FILE exists.
- late FILE: likewise, but computes all the time.
"""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


def _option(name: str) -> Path | None:
    return Path(sys.argv[sys.argv.index(name) + 1]) if name in sys.argv else None


def _daemonise(pid_file: Path) -> None:
    if os.fork():
        return
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pid_file.write_text(str(os.getpid()))
    time.sleep(600)
    os._exit(0)


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        hung, late, unready = _option("hung"), _option("late"), _option("unready")
        while hung is not None and hung.exists():
            time.sleep(0.05)
        while late is not None and late.exists():
            pass
        ready = unready is None or not unready.exists()
        self.send_response(200 if ready or self.path == "/alive" else 503)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


if __name__ == "__main__":
    print("part begins", flush=True)
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if pid_file := _option("daemons"):
        _daemonise(pid_file)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), _Handler).serve_forever()
