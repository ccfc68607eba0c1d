"""What logins need: the directory's servers each, the database, the key, clocks and certificates."""

from __future__ import annotations

import contextlib
import ssl
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from ldap3.core.exceptions import LDAPException
from ldapauthenticator.ldapauthenticator import TlsStrategy
from traitlets import TraitError

from carme_hub.authenticator import migrations as gate_shapes
from carme_hub.authenticator.connection import Target, VerifiedTls, Way, bind, opened, search, values_of
from carme_hub.authenticator.directory_errors import WrongPasswordError
from carme_hub.authenticator.secretbox import SecretBox, SecretKeyError
from carme_hub.authenticator.threads import Threads
from carme_hub.checks import database
from carme_hub.checks.cluster import judge_clock
from carme_hub.checks.values import Check, Probe, failed, ok, skipped, warning
from carme_hub.records import migrations as record_shapes
from carme_hub.spawner.mistakes import unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from carme_hub.authenticator.questions import Settings
    from carme_hub.authenticator.servers import Server

PART = "Sign-in"
TIME_OUT = 30.0
SLOW = 1.0  # seconds for connection, TLS and one question
DAY = 86400
CERTIFICATE_DAYS = 21  # before its end, in which there is a warning
SHAPES = {"sign-in": gate_shapes.SHAPES, "records": record_shapes.SHAPES}
_MEMBERS = ("member", "uniqueMember", "memberUid")
_ZULU = "%Y%m%d%H%M%S"

_threads = Threads(8, "carme-check-gate")


def probes(gate: Any, named: Mapping[str, Sequence[str]] | None = None) -> list[Probe]:
    """Return what to look at for an authenticator that is made, and neither opened nor used.

    Parameters
    ----------
    gate
        The authenticator.
    named
        What is for some groups only, and their names: they have to be in the directory.
    """
    found = [
        Probe(
            PART, "Database", TIME_OUT, partial(_in_thread, partial(database.look, gate.database_url, SHAPES))
        ),
        Probe(PART, "Key file", TIME_OUT, partial(_in_thread, partial(look_at_key, gate.secret_key_file))),
    ]
    try:
        settings = gate.directory_settings()
    except (ValueError, TraitError) as error:
        wrong = failed("Directory", str(error))
        return [Probe(PART, "Directory", TIME_OUT, partial(_known, wrong)), *found]
    looks = [
        Probe(PART, _title(server), TIME_OUT, partial(_in_thread, partial(look_at_server, settings, server)))
        for server in settings.servers
    ]
    if named and settings.group_search_base:
        look = partial(_in_thread, partial(look_at_groups, settings, named))
        looks.append(Probe(PART, "Groups", TIME_OUT, look))
    return [*looks, *found]


async def _known(check: Check) -> list[Check]:
    return [check]


async def _in_thread(work: Callable[[], Sequence[Check]]) -> Sequence[Check]:
    return await _threads.run(work, TIME_OUT)


def _title(server: Server) -> str:
    return f"Directory server {server}"


def look_at_groups(settings: Settings, named: Mapping[str, Sequence[str]]) -> list[Check]:
    """Look for groups in the directory, at the first server that answers. It blocks."""
    for server in settings.servers:
        with contextlib.suppress(LDAPException, OSError, WrongPasswordError):
            members = _members(settings, server)
            return judge_groups(named, members)
    return [skipped("Groups", "No directory server answered, so that no group was looked for.")]


def _members(settings: Settings, server: Server) -> dict[str, int]:
    """Return the groups of the directory and how many members each shows."""
    began = time.monotonic()
    verified = None if settings.tls is TlsStrategy.insecure else VerifiedTls(settings.ca_file)
    way = Way(settings.tls, verified, settings.connect_timeout, settings.receive_timeout)
    with opened(way, Target(server, began + settings.deadline)) as connection:
        if settings.service_dn:
            bind(connection, settings.service_dn, settings.service_password)
        entries = search(connection, settings.group_search_base, "(cn=*)", "SUBTREE", ["cn", *_MEMBERS])
    return {
        name: sum(len(values_of(entry, attribute)) for attribute in _MEMBERS)
        for entry in entries
        for name in values_of(entry, "cn")
    }


def judge_groups(named: Mapping[str, Sequence[str]], members: Mapping[str, int]) -> list[Check]:
    """Judge whether the groups that a configuration names are in the directory, and not empty.

    Parameters
    ----------
    named
        Who names them: ``{'profile "gpu"': ("researchers",)}``.
    members
        The directory's groups with their numbers of members. Where none shows any, nothing is said of that.
    """
    found = []
    for whose, groups in named.items():
        title = f"Groups of {whose}"
        missing = [
            unknown(group, members, "the directory has no group") for group in groups if group not in members
        ]
        empty = [group for group in groups if not members.get(group, 1)] if any(members.values()) else []
        if missing:
            found.append(failed(title, ". ".join(one[0].upper() + one[1:] for one in missing)))
        elif empty and len(empty) == len(groups):
            found.append(warning(title, f"Nobody is in {', '.join(empty)}: nobody can have it."))
        else:
            found.append(ok(title, f"The directory has {', '.join(groups)}."))
    return found


@dataclass(frozen=True)
class Seen:
    """What a directory server showed.

    Attributes
    ----------
    seconds
        How long connection, TLS, bind and one question took.
    bound
        Whether the service account could come in; None where there is none.
    ends
        When its certificate ends, seconds since 1970; None without TLS.
    behind
        By how many seconds, at least, its clock differs; None where it does not tell the time.
    """

    seconds: float
    bound: bool | None = None
    ends: float | None = None
    behind: float | None = None


def look_at_server(settings: Settings, server: Server) -> list[Check]:
    """Connect to one server as a login does, and ask it something. It blocks."""
    title = _title(server)
    try:
        seen = _ask(settings, server)
    except (LDAPException, OSError, WrongPasswordError) as error:
        said = str(error) or type(error).__name__
        rest = (
            " Logins go to the other servers meanwhile."
            if len(settings.servers) > 1
            else " Nobody can sign in."
        )
        return [failed(title, f"It cannot be used: {said.rstrip('.')}.{rest}")]
    return judge_server(title, seen)


def _ask(settings: Settings, server: Server) -> Seen:
    began, asked = time.monotonic(), time.time()
    verified = None if settings.tls is TlsStrategy.insecure else VerifiedTls(settings.ca_file)
    way = Way(settings.tls, verified, settings.connect_timeout, settings.receive_timeout)
    with opened(way, Target(server, began + settings.deadline)) as connection:
        ends = None
        if isinstance(connection.socket, ssl.SSLSocket):
            certificate = connection.socket.getpeercert() or {}
            ends = ssl.cert_time_to_seconds(str(certificate["notAfter"])) if certificate else None
        bound = None
        if settings.service_dn:
            try:
                bind(connection, settings.service_dn, settings.service_password)
                bound = True
            except WrongPasswordError:
                return Seen(time.monotonic() - began, bound=False, ends=ends)
        # The root entry is open to everybody (RFC 4512, 5.1); Active Directory tells its time there.
        told = search(connection, "", "(objectClass=*)", "BASE", ["currentTime"])
    seconds, answered = time.monotonic() - began, time.time()
    return Seen(seconds, bound, ends, _behind(told, asked, answered))


def _behind(told: Sequence[dict[str, Any]], asked: float, answered: float) -> float | None:
    for text in values_of(told[0], "currentTime") if told else []:
        try:
            there = time.mktime(time.strptime(text[:14], _ZULU)) - time.timezone
        except ValueError:
            return None
        return max(asked - 1 - there, there - answered, 0)
    return None


def judge_server(title: str, seen: Seen, now: float | None = None) -> list[Check]:
    """Judge what a server showed: does it let the service account in, how quickly; certificate, clock."""
    if seen.bound is False:
        sentence = (
            "It refuses the service account (lookup_dn_search_user, lookup_dn_search_password): who leaves "
            "the directory keeps logins, and with lookup_dn nobody can sign in."
        )
        found = [failed(title, sentence)]
    elif seen.seconds > SLOW:
        found = [warning(title, f"It answered in {seen.seconds:.1f} s, which every login waits for.")]
    elif seen.bound is None:
        sentence = (
            f"It answered in {seen.seconds:.2f} s. There is no service account (lookup_dn_search_user)."
        )
        found = [warning(title, f"{sentence} Who leaves the directory keeps logins until the next one.")]
    else:
        found = [ok(title, f"It answered in {seen.seconds:.2f} s, and lets the service account in.")]
    if seen.ends is not None:
        found.append(judge_certificate(f"Certificate of {title[0].lower()}{title[1:]}", seen.ends, now))
    else:
        sentence = "Passwords travel to it in plain text (tls_strategy = 'insecure')."
        found.append(failed(f"Certificate of {title[0].lower()}{title[1:]}", sentence))
    if seen.behind is not None:
        found.append(judge_clock(f"Clock of {title[0].lower()}{title[1:]}", "Its", seen.behind))
    return found


def judge_certificate(title: str, ends: float, now: float | None = None) -> Check:
    """Judge when a certificate ends (seconds since 1970)."""
    days = (ends - (time.time() if now is None else now)) / DAY
    date = time.strftime("%Y-%m-%d", time.gmtime(ends))
    if days < 0:
        return failed(title, f"It ended on {date}. Put a new one in place.")
    if days < CERTIFICATE_DAYS:
        return warning(title, f"It ends on {date}, in {int(days)} days. Renew it.")
    return ok(title, f"It is valid until {date}.")


def look_at_key(path: str) -> list[Check]:
    """Read the key file as the gate does: it is there, whole, and closed to others."""
    title = "Key file"
    try:
        SecretBox.load(path)
    except SecretKeyError as error:
        return [failed(title, str(error))]
    if not path:
        return [ok(title, "The key comes from the environment (CARME_SECRET_KEY).")]
    return [ok(title, f"{path} holds a key, and nobody else can read it.")]
