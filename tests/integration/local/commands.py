"""Stands in for `niyama migrate`, `gateway` and `worker`: ready immediately, or dying on request.

The stack starts, watches, restarts and stops commands; here without the seconds that a model takes
to load. `FAKE_<NAME>=die` makes a command fail at start, and so does a
file named by `FAKE_SWITCH` once it exists; `FAKE_<NAME>=stubborn` makes it ignore SIGTERM.
"""

import http.server
import os
import signal
import sys


class Ready(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/readyz" else 404)
        self.end_headers()


def main(name: str, *arguments: str) -> None:
    given = {key: value for key, value in os.environ.items() if key.startswith("NIYAMA_")}
    print(name, arguments, sorted(given.items()), flush=True)
    switch = os.environ.get("FAKE_SWITCH")
    if os.environ.get(f"FAKE_{name.upper()}") == "die" or (switch and os.path.exists(switch)):
        sys.exit(f"{name}: no such model")
    if os.environ.get(f"FAKE_{name.upper()}") == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    port = {"gateway": "NIYAMA_API_PORT", "worker": "NIYAMA_HEALTH_PORT"}.get(name)
    if port:
        http.server.HTTPServer(("127.0.0.1", int(given[port])), Ready).serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
