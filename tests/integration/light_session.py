"""Stands in for JupyterLab where a test is about the hub: runs on a node, answers every request at once.

A class of twenty JupyterLabs takes minutes and gigabytes on a small machine, and what they would do there is
answer ``GET .../api``. Job, batch script, reporter, port and route are the real ones.
"""

from __future__ import annotations

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class _Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        text = os.environ["SLURM_JOB_ID"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_words: object) -> None:
        pass


if __name__ == "__main__":
    port = urlsplit(os.environ["JUPYTERHUB_SERVICE_URL"]).port
    ThreadingHTTPServer(("", port or 0), _Answer).serve_forever()
