"""The files that a configuration names: whether they are there, and who else can read them."""

from __future__ import annotations

import os
import ssl
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from carme_hub.authenticator.secretbox import SecretBox, SecretKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traitlets.config import Config


def gate_lines(gate: Any) -> Iterator[str]:
    """Look at the files of the authenticator: key, authorities, the folder of audit log and database."""
    yield from _key(gate.secret_key_file, gate.database_url)
    if gate.ca_file:
        yield from _authorities(gate.ca_file)
    if gate.audit_file:
        yield from _folder("CarmeAuthenticator.audit_file", gate.audit_file)


def _key(path: str, database: str) -> Iterator[str]:
    try:
        SecretBox.load(path)
    except SecretKeyError as error:
        yield f"CarmeAuthenticator.secret_key_file: {str(error).rstrip('.')}"
        return
    if os.environ.get("CARME_SECRET_KEY"):
        return
    owner = os.stat(path).st_uid  # noqa: PTH116
    hub = _owner_of(database)
    if hub is not None and owner not in {0, hub, os.geteuid()}:
        yield (
            f"CarmeAuthenticator.secret_key_file: {path} belongs to the user id {owner}, and the hub's "
            f"database to {hub}. Give it to the hub's account: chown {hub} {path}"
        )
    elif hub not in {None, 0, owner} and os.geteuid() == 0 and not _group_reads(path):
        yield (
            f"CarmeAuthenticator.secret_key_file: {path} is root's alone, and the hub is the user id {hub}, "
            f"who cannot read it. Give it to that account: chown {hub} {path}"
        )
    folder = Path(path).resolve().parent
    if folder.stat().st_mode & stat.S_IWOTH and not folder.stat().st_mode & stat.S_ISVTX:
        yield (
            f"CarmeAuthenticator.secret_key_file: everybody can put another key in its place, since {folder} "
            f"can be written by all. Close it: chmod o-w {folder}"
        )


def _group_reads(path: str) -> bool:
    return bool(os.stat(path).st_mode & stat.S_IRGRP)  # noqa: PTH116


def _owner_of(database: str) -> int | None:
    """Return who the hub probably is: who owns the SQLite file of its database, or the folder of that."""
    try:
        url = sa.make_url(database)
    except sa.exc.ArgumentError:
        return None
    if url.get_backend_name() != "sqlite" or not (url.database or "").startswith("/"):
        return None
    for path in (Path(str(url.database)), Path(str(url.database)).parent):
        if path.exists():
            return path.stat().st_uid
    return None


def _authorities(path: str) -> Iterator[str]:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:  # ssl.SSLError is one
        yield f"CarmeAuthenticator.ca_file: {path} {_why(error, 'holds no certificates')}. Name a file in PEM"


def _folder(setting: str, path: str) -> Iterator[str]:
    folder = Path(path).parent
    if not folder.is_dir():
        what = f"the folder {folder} does not exist"
        yield f"{setting}: {what}. Make it, for the hub's account alone (mode 700)"


def _why(error: Exception, otherwise: str) -> str:
    if isinstance(error, ssl.SSLError):
        return otherwise
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read: {error.strerror}"
    return otherwise


def _public_key(name: str, data: bytes) -> Any:
    if name == "ssl_cert":
        return x509.load_pem_x509_certificate(data).public_key()
    return serialization.load_pem_private_key(data, None).public_key()


def hub_lines(config: Config) -> Iterator[str]:
    """Look at the hub's files: certificate and key."""
    hub = config.JupyterHub
    certificate, key = str(hub.get("ssl_cert", "")), str(hub.get("ssl_key", ""))
    if bool(certificate) != bool(key):
        there, missing = ("ssl_cert", "ssl_key") if certificate else ("ssl_key", "ssl_cert")
        yield f"JupyterHub.{missing}: it is missing, while {there} is set. TLS needs both"
    loaded = {}
    for name, path in (("ssl_cert", certificate), ("ssl_key", key)):
        if not path:
            continue
        try:
            loaded[name] = _public_key(name, Path(path).read_bytes())
        except (OSError, ValueError, TypeError) as error:
            what = "certificate" if name == "ssl_cert" else "key without a password"
            yield f"JupyterHub.{name}: {path} {_why(error, f'holds no {what}')}. Name a file in PEM"
    if key and "ssl_key" in loaded:
        yield from secret("JupyterHub.ssl_key", Path(key))
    if len(loaded) == 2 and loaded["ssl_cert"] != loaded["ssl_key"]:  # noqa: PLR2004 - both
        what = f"{key} is not the key of the certificate {certificate}"
        yield f"JupyterHub.ssl_key: {what}. Name the one that is"


def secret(setting: str, file: Path) -> Iterator[str]:
    """Say that a file with a secret is open to others than its owner and group."""
    if file.stat().st_mode & stat.S_IRWXO:
        mode = f"{stat.S_IMODE(file.stat().st_mode):o}"
        what = f"everybody on this machine can read {file} (mode {mode})"
        yield f"{setting}: {what}. Close it: chmod 600 {file}"
