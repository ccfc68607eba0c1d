"""A Content-Security-Policy for the hub's pages: a script runs if a template has it, and for no other reason.

Switched on by naming `NonceExtension` in ``JupyterHub.jinja_environment_options``.
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from jinja2.ext import Extension
from jinja2.lexer import Token
from jupyterhub.apihandlers import APIHandler
from jupyterhub.handlers.base import BaseHandler
from jupyterhub.handlers.static import CacheControlStaticFilesHandler
from tornado.web import HTTPError

from carme_hub.authenticator import static
from carme_hub.navigation import OPENER, WORKER, navigates, registers_worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from jinja2 import Environment
    from jinja2.lexer import TokenStream

SCRIPT_TAG = re.compile(r"<script(?=[\s/>]|\Z)", re.IGNORECASE)


def policy(nonce: str, report_uri: str, targets: Iterable[str] = ()) -> str:
    """Return the header for one page.

    Parameters
    ----------
    nonce
        What the page's own scripts carry.
    report_uri
        Where browsers tell of what they stopped.
    targets
        Origins besides the hub's own where a form may lead, at the end of all redirects.

    Returns
    -------
    str
        Two policies; what a page does has to fit both. By the first, everything comes from this origin. But
        people's sessions are this origin, too, and serve what their owners like: by the second, a script
        from there runs only if a script of the page fetches it (as require.js does), never by a tag.
    """
    report = f"report-uri {report_uri}"
    first = [
        "default-src 'self'",
        f"script-src 'self' 'nonce-{nonce}'",
        # JupyterHub's pages have style attributes.
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'none'",
        " ".join(["form-action 'self'", *sorted(targets)]),
        "frame-ancestors 'none'",
        report,
    ]
    second = [f"script-src 'nonce-{nonce}' 'strict-dynamic'", report]
    return ", ".join("; ".join(parts) for parts in (first, second))


def form_targets(subdomain_host: str, redirects: Iterable[str]) -> set[str]:
    """Return the other origins to which a form of the hub may redirect in the end.

    Login and consent end at whatever asked for them: a session, which has a host of its own if there are
    subdomains, or a service, which may be elsewhere.

    Parameters
    ----------
    subdomain_host
        ``JupyterHub.subdomain_host``.
    redirects
        Where OAuth sends people back to, of each service; paths are the hub's own origin.
    """
    targets = set()
    if subdomain_host:
        scheme, host = urlsplit(subdomain_host)[:2]
        targets |= {f"{scheme}://{host}", f"{scheme}://*.{host}"}
    for redirect in redirects:
        scheme, host = urlsplit(redirect)[:2]
        if scheme in {"http", "https"} and host:
            targets.add(f"{scheme}://{host}")
    return targets


# JupyterHub's own, which `NonceExtension` puts ours in place of.
_hub_policy = BaseHandler.content_security_policy
_hub_namespace = BaseHandler.template_namespace
_hub_render = BaseHandler.render_template
_hub_headers = BaseHandler.set_default_headers
_hub_prepare = BaseHandler.prepare
_hub_check = APIHandler.check_xsrf_cookie


# What else the hub's pages know: functions from a handler to names and values.
more_values: list[Callable[[Any], dict[str, Any]]] = []


def nonce_of(handler: Any) -> str:
    """Return the nonce of the handler's one response."""
    if not hasattr(handler, "carme_nonce"):
        handler.carme_nonce = secrets.token_urlsafe(16)
    return str(handler.carme_nonce)


def _page_policy(handler: Any) -> str:
    if isinstance(handler, APIHandler):  # JupyterHub's own is stricter: answers load nothing
        return str(_hub_policy.fget(handler))
    redirects = [service.oauth_redirect_uri for service in handler.services.values()]
    return policy(nonce_of(handler), handler.csp_report_uri, form_targets(handler.subdomain_host, redirects))


def _page_namespace(handler: Any) -> dict[str, Any]:
    known = {
        **_hub_namespace.fget(handler),
        "csp_nonce": nonce_of(handler),
        "carme_static": static.prefix(handler.hub.base_url),
    }
    for values in more_values:
        known |= values(handler)
    return known


# What a page proves itself with, to the hub and to the service.
_PROOFS = ("xsrf", "xsrf_token", "carme_xsrf")


def _page(handler: Any, name: str, sync: bool = False, **given: Any) -> Any:
    """Draw a page; what a script has fetched gets no proofs."""
    if not navigates(handler.request.headers):
        given |= dict.fromkeys(_PROOFS, "")
    return _hub_render(handler, name, sync, **given)


def _headers(handler: Any) -> None:
    _hub_headers(handler)
    handler.set_header(*OPENER)


def _refuse_worker(handler: Any) -> None:
    if registers_worker(handler.request.headers):
        raise HTTPError(403, WORKER)


async def _prepare(handler: Any) -> None:
    # A script of any page of this origin can give itself the address of a page of the hub's, and its cookies.
    handler.settings.setdefault("xsrf_cookie_kwargs", {})["httponly"] = True
    if registers_worker(handler.request.headers):
        handler._jupyterhub_user = None  # noqa: SLF001 - the error's page asks who it is for
        handler.expanded_scopes, handler.parsed_scopes = set(), {}
        raise HTTPError(403, WORKER)
    await _hub_prepare(handler)


def _check_api(handler: Any) -> None:
    """Want the proof of every script that comes with a cookie.

    JupyterHub takes ``no-cors`` for an embedded picture, whose page does not see it. A script of the same
    origin that fetches so does see the answer.
    """
    by_cookie = getattr(handler, "_jupyterhub_user", None) is not None and not getattr(
        handler, "_token_authenticated", False
    )
    if by_cookie and handler.request.headers.get("Sec-Fetch-Mode") == "no-cors":
        raise HTTPError(403, "The hub's API is not for pages to embed.")
    _hub_check(handler)


def _guard_origin() -> None:
    """Have the hub's answers tell their proofs to nobody but their own pages."""
    BaseHandler.render_template = _page
    BaseHandler.set_default_headers = _headers
    BaseHandler.prepare = _prepare
    CacheControlStaticFilesHandler.prepare = _refuse_worker
    APIHandler.check_xsrf_cookie = _check_api


class NonceExtension(Extension):
    """Give each ``<script`` in a template's own text the nonce of the response, and the pages their policy.

    What is filled in (``{{ ... }}``) is not the template's: a script in it has no nonce, and does not run.

    JupyterHub has a setting for one fixed header, and none for a nonce, which is new in each response. Header
    and template meet in the handler, one of which makes one response: the two properties changed here are
    where it makes them. They are changed by whoever makes templates with this extension, that is by the hub:
    the policy without the nonces would stop every page.
    """

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        BaseHandler.content_security_policy = property(_page_policy)
        BaseHandler.template_namespace = property(_page_namespace)
        _guard_origin()

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Put ``nonce="{{ csp_nonce }}"`` into the tags."""
        for token in stream:
            if token.type != "data":
                yield token
                continue
            rest = 0
            for tag in SCRIPT_TAG.finditer(token.value):
                yield Token(token.lineno, "data", token.value[rest : tag.end()] + ' nonce="')
                yield Token(token.lineno, "variable_begin", "{{")
                yield Token(token.lineno, "name", "csp_nonce")
                yield Token(token.lineno, "variable_end", "}}")
                yield Token(token.lineno, "data", '"')
                rest = tag.end()
            yield Token(token.lineno, "data", token.value[rest:])
