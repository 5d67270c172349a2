"""An issuer of tokens: its key, and a server of its public keys."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Issuer:
    """Signs tokens (ES256)."""

    def __init__(self, name: str = "https://idp.example", kid: str = "k") -> None:
        self.name, self._kid = name, kid
        self._key = ec.generate_private_key(ec.SECP256R1())

    def jwks(self) -> str:
        numbers = self._key.public_key().public_numbers()
        point = {"x": _b64(numbers.x.to_bytes(32, "big")), "y": _b64(numbers.y.to_bytes(32, "big"))}
        return json.dumps(
            {"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self._kid, **point}]}
        )

    def token(self, **claims: Any) -> str:
        usual = {"iss": self.name, "aud": "headend", "sub": "radio", "exp": time.time() + 600}
        parts = [{"alg": "ES256", "typ": "JWT", "kid": self._kid}, usual | {"scope": "infer"} | claims]
        text = ".".join(_b64(json.dumps(part).encode()) for part in parts)
        r, s = decode_dss_signature(self._key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


class KeysServer:
    """Shows what `content` is at the moment, over TLS where there is a `context`."""

    def __init__(self, content: str, port: int, context: ssl.SSLContext | None = None) -> None:
        self.content, self.asked = content, 0
        self._port, self._context = port, context

    @contextmanager
    def running(self) -> Iterator[None]:
        shown = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                shown.asked += 1
                self.send_response(200)
                self.end_headers()
                self.wfile.write(shown.content.encode())

            def log_message(self, *_: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        if self._context:
            # Shaken hands where the connection is served: one that fails must not end the others.
            server.socket = self._context.wrap_socket(
                server.socket, server_side=True, do_handshake_on_connect=False
            )
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
