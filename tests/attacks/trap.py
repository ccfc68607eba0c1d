"""A server of the attacker: ``trap.py ADDRESS`` prints its port, answers everything, ends with its input."""

from __future__ import annotations

import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = "127.0.0.2"  # loopback, but not the address that any real server of the tests has
BAIT = "you are in the attacker's hands"


class Trap(BaseHTTPRequestHandler):
    def do_GET(self):
        body = BAIT.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        pass


def main() -> None:
    server = ThreadingHTTPServer((sys.argv[1], 0), Trap)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
