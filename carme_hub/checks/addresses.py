"""The addresses that a configuration names: whether they are addresses, and lead to what can be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import sqlalchemy as sa

from carme_hub.spawner.mistakes import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traitlets.config import Config

# Setting -> an address as it has to look like.
_URLS = {
    ("JupyterHub", "bind_url"): "http://:8000",
    ("JupyterHub", "hub_bind_url"): "http://:8081",
    ("JupyterHub", "hub_connect_url"): "http://head.example.org:8081",
    ("ConfigurableHTTPProxy", "api_url"): "http://127.0.0.1:8001",
    ("Spawner", "hub_connect_url"): "http://head.example.org:8081",
    ("CarmeSpawner", "hub_connect_url"): "http://head.example.org:8081",
}
_HOSTS = ("hub_connect_ip", "hub_ip", "ip")


def lines(config: Config) -> Iterator[str]:
    """Look at the addresses of hub, proxy and sessions, and at the hub's database."""
    for (section, name), example in _URLS.items():
        value = config.get(section, {}).get(name)
        if isinstance(value, str) and value and not _is_url(value):
            yield f"{section}.{name}: {shown(value)} is no address. Write it like {shown(example)}"
    for name in _HOSTS:
        value = config.JupyterHub.get(name)
        if isinstance(value, str) and ("//" in value or "/" in value):
            yield f"JupyterHub.{name}: {shown(value)} is an address. Write the host's name or number alone"
    url = config.JupyterHub.get("db_url")
    if isinstance(url, str) and "://" in url:  # it takes a file's path as well
        yield from database("JupyterHub.db_url", url)


def gate_lines(gate: Any) -> Iterator[str]:
    """Look at the address of the project's own database."""
    yield from database("CarmeAuthenticator.database_url", gate.database_url)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.netloc)


def database(setting: str, url: str) -> Iterator[str]:
    """Look at a database's address: it can be read, its driver is installed, its folder is there."""
    try:
        parsed = sa.make_url(url)
        parsed.get_dialect().import_dbapi()
    except sa.exc.ArgumentError:
        example = '"sqlite:////FOLDER/FILE" or "postgresql+psycopg://USER:PASSWORD@HOST/NAME"'
        yield f"{setting}: this is no address of a database. Write {example}"
        return
    except (sa.exc.NoSuchModuleError, ImportError) as error:
        missing = str(error).rpartition(":")[2].strip() if not isinstance(error, ImportError) else error.name
        what = f"the program for this kind of database is not installed ({missing})"
        yield f"{setting}: {what}. Install it, or correct the address"
        return
    path = parsed.database or ""
    if parsed.get_backend_name() == "sqlite" and path.startswith("/") and not Path(path).parent.is_dir():
        what = f"the folder {Path(path).parent} does not exist"
        yield f"{setting}: {what}. Make it, for the hub's account alone (mode 700)"
