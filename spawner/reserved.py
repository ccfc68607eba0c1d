"""Names that no session can have: below its owner's address, they are parts of the default session.

A named session is at ``/user/NAME/SERVER/``, and the default one has all of ``/user/NAME/``.
"""

from __future__ import annotations

from typing import Any

from jupyterhub.handlers.base import BaseHandler

from carme_hub.spawner.errors import SessionError

# First words of addresses below a single-user server's prefix.
_JUPYTER_SERVER = "api auth custom edit favicon files kernelspecs login logout metrics nbconvert nbextensions"
_JUPYTER_SERVER += " notebooks oauth-callback public security services static terminals tree view"
_LAB = "config consoles doc extensions fileeditor lab lsp mathjax nbclassic notebook schemas settings"
_LAB += " terminal theme themes translations workspaces"
_EXTENSIONS = "absproxy carme code code-server collaboration dask desktop git git-pull gradio hub jupyterlab"
_EXTENSIONS += (
    " jupyter-resource-usage llm nbgitpuller nbgrader panel proxy resource-usage rstudio server-proxy"
)
_EXTENSIONS += " shiny streamlit tensorboard user voila vscode widgets"
RESERVED = frozenset(f"{_JUPYTER_SERVER} {_LAB} {_EXTENSIONS}".split())

SENTENCE = "A session cannot be called “{name}”: that is an address of the session without a name."

_check = BaseHandler._check_named_server_request  # noqa: SLF001 - what ours goes on with


def problem(name: str) -> str:
    """Return what a person is told of a name that no session can have; empty for any other."""
    return SENTENCE.format(name=name) if name in RESERVED else ""


async def _check_name(handler: Any, user: Any, server_name: str, *more: Any, **named: Any) -> None:
    """Check a request for a named server, of whichever way: form, link, POST, PUT, a new name by PATCH."""
    if isinstance(server_name, str) and (sentence := problem(server_name)):
        raise SessionError(sentence, reason="name", status_code=400)
    await _check(handler, user, server_name, *more, **named)


def install() -> None:
    """Have the hub check names with this; doing it again changes nothing."""
    BaseHandler._check_named_server_request = _check_name  # noqa: SLF001 - where JupyterHub checks all names
