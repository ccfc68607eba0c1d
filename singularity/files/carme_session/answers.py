"""What is true of every answer of the session, whoever gives it: a page of the server or a forwarded program.

- Nothing makes a browser keep a service worker: a request for one is refused, and no answer widens the reach
  of one. It would stay in the browser when the session is over. The one that Code-Server needs to show what
  its extensions draw is let through; its reach is its own folder.
- Static files are compressed, and kept by the browser for good where their name changes with their content.
  Pages are not compressed: with secrets inside, a compressed page's length tells of them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tornado.web import ErrorHandler, GZipContentEncoding, OutputTransform

if TYPE_CHECKING:
    from tornado.httputil import HTTPHeaders, HTTPServerRequest

WORKER = "Service-Worker"
REACH = "Service-Worker-Allowed"
# Below the server's base address.
STATIC = ("static/", "lab/extensions/", "lab/api/themes/", "kernelspecs/", "nbextensions/")
_CODE_SERVERS_OWN = re.compile(
    r"code-server/[a-z]+-[0-9a-f]+/static/out/vs/workbench/contrib/webview/browser/pre/service-worker\.js"
)
# A hash in a file's name, as webpack writes it: "jlab_core.8b87c9f5d14c9ec4a9ab.js", "remoteEntry.0f4a….js".
_HASHED = re.compile(r"(^|[./-])[0-9a-f]{16,64}\.[a-z0-9.]+$")
FOR_GOOD = "private, max-age=31536000, immutable"
OK = 200


def refuses(path: str, headers: HTTPHeaders, base: str) -> bool:
    """Say whether a request is for a service worker that this session does not want."""
    if WORKER not in headers:
        return False
    return not (path.startswith(base) and _CODE_SERVERS_OWN.fullmatch(path[len(base) :]))


def changes_with_its_content(name: str) -> bool:
    """Say whether a file's name says what is in it."""
    return _HASHED.search(name) is not None


def transform(base: str) -> type[OutputTransform]:
    """Return what is done to each answer of a server.

    Parameters
    ----------
    base
        Its base address.
    """

    class Answer(GZipContentEncoding):
        def __init__(self, request: HTTPServerRequest) -> None:
            super().__init__(request)
            self._refused = refuses(request.path, request.headers, base)
            self._name = request.path[len(base) :] if request.path.startswith(base) else ""
            self._static = self._name.startswith(STATIC) and request.method in {"GET", "HEAD"}
            # A part of a file is a part of the file as it is.
            self._gzipping = self._gzipping and self._static and "Range" not in request.headers

        def transform_first_chunk(
            self, status_code: int, headers: HTTPHeaders, chunk: bytes, finishing: bool
        ) -> tuple[int, HTTPHeaders, bytes]:
            headers.pop(REACH, None)
            if not self._static:
                return status_code, headers, chunk
            if status_code == OK and changes_with_its_content(self._name):
                headers["Cache-Control"] = FOR_GOOD
                headers.pop("Expires", None)
            self._gzipping = self._gzipping and status_code == OK
            return super().transform_first_chunk(status_code, headers, chunk, finishing)

    return Answer


def setup(serverapp: Any) -> None:
    """Put it between all handlers and the network."""
    application = serverapp.web_app
    base = application.settings["base_url"]
    application.add_transform(transform(base))
    find = application.find_handler

    def find_handler(request: HTTPServerRequest, **kwargs: Any) -> Any:
        if refuses(request.path, request.headers, base):
            return application.get_handler_delegate(request, ErrorHandler, {"status_code": 403})
        return find(request, **kwargs)

    application.find_handler = find_handler
