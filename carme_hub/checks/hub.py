"""The hub's machine: versions, the proxy, the hub behind it, the service, certificates, the rule of sudo."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import os
import shutil
import socket
import ssl
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import aiohttp
from cryptography import x509

from carme_hub import __version__
from carme_hub.authenticator.threads import Threads
from carme_hub.checks import database
from carme_hub.checks.gate import judge_certificate
from carme_hub.checks.values import Check, Probe, failed, ok, skipped, warning
from carme_hub.spawner.slurm import SlurmUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from traitlets.config import Config

    from carme_hub.spawner.slurm import Account, Slurm

PART = "Hub"
TIME_OUT = 15.0
ANSWER = 5.0  # seconds for one answer over HTTP
SLOW = 1.0

_threads = Threads(4, "carme-check-hub")


@dataclass(frozen=True)
class Addresses:
    """Where the parts of the hub answer, as this machine reaches them; empty for what is not known.

    Attributes
    ----------
    front
        The proxy, with JupyterHub's base_url and a slash at its end.
    proxy
        The proxy's own API.
    public
        What people type, where the site says so (``JupyterHub.public_url``).
    certificate
        File with the proxy's certificate (``JupyterHub.ssl_cert``).
    """

    front: str
    proxy: str
    public: str
    certificate: str

    @classmethod
    def of(cls, config: Config) -> Addresses:
        """Read them from a site's configuration, with JupyterHub's own defaults."""
        hub, proxy = config.JupyterHub, config.ConfigurableHTTPProxy
        certificate = str(hub.get("ssl_cert", ""))
        given = urlsplit(str(hub.get("bind_url", "")))
        host = given.hostname or str(hub.get("ip", ""))
        if host in {"", "0.0.0.0", "::"}:  # noqa: S104 - "everywhere", which includes here
            host = "127.0.0.1"
        port = given.port or int(hub.get("port", 8000))
        scheme = "https" if certificate else given.scheme or "http"
        base = given.path if given.path.strip("/") else str(hub.get("base_url", "/"))
        prefix = f"/{base.strip('/')}/" if base.strip("/") else "/"
        shown = f"[{host}]" if ":" in host else host
        return cls(
            front=f"{scheme}://{shown}:{port}{prefix}",
            proxy=str(proxy.get("api_url", "http://127.0.0.1:8001")).rstrip("/"),
            public=str(hub.get("public_url", "")),
            certificate=certificate,
        )


def probes(config: Config, slurm: Slurm | None, account: Account | None) -> list[Probe]:
    """Return what to look at on the hub's machine."""
    at = Addresses.of(config)
    url = str(config.JupyterHub.get("db_url", "sqlite:///jupyterhub.sqlite"))
    command = config.ConfigurableHTTPProxy.get("command", "configurable-http-proxy")
    words = [command] if isinstance(command, str) else list(map(str, command))
    return [
        Probe(PART, "Hub", TIME_OUT, partial(_hub, at)),
        Probe(PART, "Service", TIME_OUT, partial(_service, at)),
        Probe(PART, "Proxy", TIME_OUT, partial(_proxy, at, words)),
        Probe(
            PART, "JupyterHub's database", TIME_OUT, partial(_in_thread, partial(database.look_at_hub, url))
        ),
        Probe(PART, "Certificate of the hub", TIME_OUT, partial(_in_thread, partial(look_at_tls, at))),
        Probe(PART, "Acting as people", TIME_OUT, partial(_sudo, slurm, account)),
    ]


async def _in_thread(work: Callable[[], Sequence[Check]]) -> Sequence[Check]:
    return await _threads.run(work, TIME_OUT)


async def _get(url: str) -> tuple[int, str, float]:
    """Return status, text and seconds of an answer; certificates are looked at elsewhere."""
    began = time.monotonic()
    time_out = aiohttp.ClientTimeout(total=ANSWER)
    async with (
        aiohttp.ClientSession(timeout=time_out, trust_env=False) as session,
        session.get(url, allow_redirects=False, ssl=False) as answer,
    ):
        text = await answer.content.read(65536)
        return answer.status, text.decode(errors="replace"), time.monotonic() - began


async def _hub(at: Addresses) -> list[Check]:
    title, url = "Hub", f"{at.front}hub/api/"
    try:
        status, text, seconds = await _get(url)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return [failed(title, f"Nothing answers at {url} ({_why(error)}): people cannot reach the hub.")]
    return [judge_hub(title, status, text, seconds, importlib.metadata.version("jupyterhub"))]


def judge_hub(title: str, status: int, text: str, seconds: float, installed: str) -> Check:
    """Judge the hub's answer to ``/hub/api/``, through the proxy, which says its version."""
    try:
        runs = str(json.loads(text)["version"])
    except (ValueError, KeyError, TypeError):
        return failed(
            title, f"The proxy answers with status {status}, and not the hub: it does not run, or not yet."
        )
    if runs != installed:
        return warning(title, f"JupyterHub {runs} runs, and {installed} is installed: restart the hub.")
    said = f"JupyterHub {runs} with carme-hub {__version__} answered through the proxy in {seconds:.2f} s"
    return warning(title, f"{said}: that is slow.") if seconds > SLOW else ok(title, f"{said}.")


async def _service(at: Addresses) -> list[Check]:
    title, url = "Service", f"{at.front}services/carme/api/me"
    try:
        _, text, seconds = await _get(url)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return [failed(title, f"Nothing answers at {url} ({_why(error)}).")]
    return [judge_service(title, text, seconds)]


def judge_service(title: str, text: str, seconds: float) -> Check:
    """Judge what answers at the service's address somebody who has not come in."""
    try:
        ours = "signed_in" in json.loads(text)
    except (ValueError, TypeError):
        ours = False
    if not ours:  # the hub itself, or the proxy
        sentence = "The service does not answer: dashboard, history and admin pages are missing."
        return failed(title, f"{sentence} The hub's log says why it does not start.")
    said = f"The service of dashboard, history and admin pages answered in {seconds:.2f} s"
    return warning(title, f"{said}: that is slow.") if seconds > SLOW else ok(title, f"{said}.")


async def _proxy(at: Addresses, command: list[str]) -> list[Check]:
    title = "Proxy"
    version = await _version([*command, "--version"])
    try:
        status, _, _ = await _get(f"{at.proxy}/api/routes")
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return [
            failed(
                title, f"Its API at {at.proxy} does not answer ({_why(error)}): no new session is reachable."
            )
        ]
    known = f" {version}" if version else ""
    if status == 200:  # noqa: PLR2004 - OK
        return [
            failed(
                title,
                f"Its API at {at.proxy} obeys everybody on this machine: set CONFIGPROXY_AUTH_TOKEN.",
            )
        ]
    return [ok(title, f"configurable-http-proxy{known}: its API answers, and wants a token.")]


async def _version(command: list[str]) -> str:
    """Return what a program says of its version; empty where it cannot be asked."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(ANSWER):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    line = out.decode(errors="replace").strip().partition("\n")[0]
    return line[:40]


def _why(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return f"not within {ANSWER:g} s"
    return str(error) or type(error).__name__


def look_at_tls(at: Addresses) -> list[Check]:
    """Find out when the certificate ends that people's browsers see. It blocks."""
    title = "Certificate of the hub"
    if at.certificate:
        try:
            found = x509.load_pem_x509_certificate(Path(at.certificate).read_bytes())
        except (OSError, ValueError) as error:
            return [failed(title, f"{at.certificate} (JupyterHub.ssl_cert) cannot be read: {_why(error)}.")]
        return [judge_certificate(title, found.not_valid_after_utc.timestamp())]
    public = urlsplit(at.public)
    if public.scheme != "https" or not public.hostname:
        sentence = (
            "The hub has no certificate (JupyterHub.ssl_cert), and JupyterHub.public_url names no https "
            "address. Where a web server in front of it has one, name that address; else passwords travel in "
            "plain text."
        )
        return [warning(title, sentence)]
    try:
        ends = _end_of(public.hostname, public.port or 443)
    except (OSError, ssl.SSLError, ValueError) as error:
        return [
            failed(title, f"{public.hostname} shows no certificate that browsers believe: {_why(error)}.")
        ]
    return [judge_certificate(title, ends)]


def _end_of(host: str, port: int) -> float:
    context = ssl.create_default_context()
    with (
        socket.create_connection((host, port), timeout=ANSWER) as raw,
        context.wrap_socket(raw, server_hostname=host) as secure,
    ):
        certificate = secure.getpeercert() or {}
    return ssl.cert_time_to_seconds(str(certificate["notAfter"]))


async def _sudo(slurm: Slurm | None, account: Account | None) -> list[Check]:
    """Find out whether sbatch can be run as a person: as root, or by a rule of sudo."""
    title = "Acting as people"
    if os.geteuid() == 0:
        return [ok(title, "This runs as root, and becomes the person for each command.")]
    if slurm is None:
        return [
            failed(
                title,
                "This does not run as root, and sessions on the hub's own machine need a hub that does.",
            )
        ]
    if shutil.which("sudo", path="/usr/bin") is None:
        return [
            failed(
                title, "This does not run as root, and there is no /usr/bin/sudo: nobody's session can start."
            )
        ]
    if account is None or account.uid == os.geteuid():
        return [skipped(title, "The rule of sudo was not tried: nobody else was named to try it for.")]
    try:
        # One of the rule's own commands; an empty script asks nothing of Slurm.
        done = await slurm.run([f"{slurm.folder}/sbatch", "--test-only"], account=account)
    except SlurmUnavailable as error:
        return [failed(title, str(error))]
    refused = "password is required" in done.err or "not allowed" in done.err
    return [judge_sudo(title, account.name, refused=refused)]


def judge_sudo(title: str, name: str, *, refused: bool) -> Check:
    """Judge whether sudo let a command through."""
    if refused:
        return failed(
            title, f"sudo lets this account run nothing as {name}. Compare with etc/sudoers.d/carme-hub."
        )
    return ok(title, f"sudo lets this account run Slurm's commands as {name}.")
