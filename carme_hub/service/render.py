"""The templates as the hub has them: its own folder and ours, with the same extensions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader
from jupyterhub import __version__ as jupyterhub_version
from jupyterhub._data import DATA_FILES_PATH
from jupyterhub.scopes import parse_scopes
from jupyterhub.utils import url_path_join
from tornado.web import StaticFileHandler

from carme_hub import csp
from carme_hub.authenticator import static

if TYPE_CHECKING:
    from carme_hub.service.person import Person


class Reader:
    """What JupyterHub's page asks of ``user``."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def json_escaped_name(self) -> str:
        """The name for a string in a script, which ends no script."""
        return json.dumps(self.name)[1:-1].replace("<", "\\u003c")


class Pages:
    """Makes pages that look like the hub's.

    Parameters
    ----------
    config : traitlets.config.Config
        The site's.
    hub_url
        The hub's prefix with a slash at its end: ``/hub/``.
    service_url
        Ours: ``/services/carme/``.
    """

    def __init__(self, config: Any, hub_url: str, service_url: str) -> None:
        jupyterhub = config.JupyterHub
        data = jupyterhub.get("data_files_path", DATA_FILES_PATH)
        own = str(Path(data) / "templates")
        folders = [path for path in jupyterhub.get("template_paths", []) if path != own]
        options = {"autoescape": True, **jupyterhub.get("jinja_environment_options", {})}
        loader = ChoiceLoader(
            [PrefixLoader({"templates": FileSystemLoader([own])}, "/"), FileSystemLoader([*folders, own])]
        )
        self.environment = Environment(loader=loader, **options)  # noqa: S701  it is on
        self.hub_url, self.service_url = hub_url, service_url
        self.site_wide = jupyterhub.get("template_vars", {})
        self.version = static.other_version(jupyterhub_version)
        self.subdomains = str(jupyterhub.get("subdomain_host", ""))
        self._static = {
            "static_path": str(Path(data) / "static"),
            "static_url_prefix": url_path_join(hub_url, "static/"),
        }

    def static_url(self, path: str, include_version: bool = True) -> str:
        """Return the address of one of JupyterHub's own files."""
        return str(StaticFileHandler.make_static_url(self._static, path, include_version))

    def policy(self, nonce: str) -> str:
        """Return the Content-Security-Policy of a page, the hub's own."""
        report = url_path_join(self.hub_url, "security/csp-report")
        return csp.policy(nonce, report, csp.form_targets(self.subdomains, []))

    def page(
        self, template: str, person: Person | None, nonce: str, xsrf: str, values: dict[str, Any]
    ) -> str:
        """Fill in a template.

        Raises
        ------
        jinja2.TemplateError
            It is missing or wrong.
        """
        user = Reader(person.name) if person else None
        scopes = set(person.scopes) if person else set()
        about = {
            "base_url": self.hub_url,
            "prefix": self.hub_url.removesuffix("hub/"),
            "service_url": self.service_url,
            "user": user,
            "person": person,
            "login_url": url_path_join(self.hub_url, "login"),
            "logout_url": url_path_join(self.hub_url, "logout"),
            "static_url": self.static_url,
            "version_hash": self.version,
            "carme_static": static.prefix(self.hub_url),
            "services": [],
            "parsed_scopes": parse_scopes(scopes),
            "expanded_scopes": scopes,
            "xsrf": xsrf,
            "carme_xsrf": xsrf,
            "csp_nonce": nonce,
            "no_spawner_check": True,  # `user` is a name here, and has no spawners
            **{name: value for name, value in self.site_wide.items() if not callable(value)},
        }
        return self.environment.get_template(template).render({**about, **values})
