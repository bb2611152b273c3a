"""An OAuth 2.0 token endpoint whose tokens nobody signs, as Kafka's test validator accepts them."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

CLIENT_SECRET = "client-s3cret"


def unsigned_token(subject: str, lifetime_s: float = 60) -> str:
    """A JSON Web Token with the algorithm `none`."""
    now_s = time.time()
    claims = {"sub": subject, "iat": now_s, "exp": now_s + lifetime_s}
    return f"{_encoded({'alg': 'none'})}.{_encoded(claims)}."


def _encoded(document: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


class TokenEndpoint(ThreadingHTTPServer):
    """Gives a client a token whose subject is its id."""

    daemon_threads = True

    def __init__(self, lifetime_s: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.lifetime_s = lifetime_s
        self.tokens_given = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/token"


class _Handler(BaseHTTPRequestHandler):
    server: TokenEndpoint

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        credentials = self.headers["Authorization"].removeprefix("Basic ")
        client_id, secret = base64.b64decode(credentials).decode().split(":")
        if secret != CLIENT_SECRET or form["grant_type"] != ["client_credentials"]:
            self.send_error(401)
            return
        self.server.tokens_given += 1
        token = unsigned_token(client_id, self.server.lifetime_s)
        body = json.dumps({"access_token": token, "expires_in": self.server.lifetime_s}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def token_endpoint(lifetime_s: float = 60) -> Iterator[TokenEndpoint]:
    server = TokenEndpoint(lifetime_s)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
