"""One connection to one directory server: TLS, bind, search. It blocks, so only threads come here."""

import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.core.results import (
    RESULT_BUSY,
    RESULT_CONFIDENTIALITY_REQUIRED,
    RESULT_INSUFFICIENT_ACCESS_RIGHTS,
    RESULT_NO_SUCH_OBJECT,
    RESULT_OTHER,
    RESULT_PROTOCOL_ERROR,
    RESULT_STRONGER_AUTH_REQUIRED,
    RESULT_SUCCESS,
    RESULT_TIME_LIMIT_EXCEEDED,
    RESULT_UNAVAILABLE,
)
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator.servers import Server

# Answers to a bind that speak about the server and not about the password.
_NOT_THE_PASSWORD = frozenset(
    {
        RESULT_BUSY,
        RESULT_CONFIDENTIALITY_REQUIRED,
        RESULT_OTHER,
        RESULT_PROTOCOL_ERROR,
        RESULT_STRONGER_AUTH_REQUIRED,
        RESULT_TIME_LIMIT_EXCEEDED,
        RESULT_UNAVAILABLE,
    }
)


class WrongPasswordError(Exception):
    """The directory knows nobody by this name and password who may come in."""


class VerifiedTls(ldap3.Tls):  # type: ignore[misc] # ldap3 ships no types
    """
    TLS as Python's own defaults do it: certificate and host name checked, server name sent.

    ldap3's own check is off by default, takes a subject's common name for a host name, knows no addresses.
    """

    def __init__(self, ca_file: str | None) -> None:
        super().__init__(validate=ssl.CERT_REQUIRED)
        self._context = ssl.create_default_context(cafile=ca_file or None)

    def wrap_socket(self, connection: Any, do_handshake: bool = False) -> None:  # noqa: ARG002 - ldap3's signature
        """Put TLS on a connection's socket; its time-out stays in force during the handshake."""
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host
        )


@dataclass(frozen=True)
class Way:
    """How servers are reached: encryption, who vouches for their certificates, time-outs in seconds."""

    tls: TlsStrategy
    verified: VerifiedTls | None
    connect_timeout: float
    receive_timeout: int


@contextmanager
def bound(way: Way, server: Server, dn: str, password: str) -> Iterator[Any]:
    """
    Open a connection, bind, and close it whatever happens.

    Parameters
    ----------
    way
        How to get there.
    server
        Where to.
    dn, password
        Who; both empty for nobody.

    Raises
    ------
    WrongPasswordError
        The server refused the password, or knows no such entry.
    LDAPException, OSError
        Everything else, which says nothing about the password.
    """
    target = ldap3.Server(
        server.host,
        port=server.port,
        use_ssl=way.tls is TlsStrategy.on_connect,
        tls=way.verified,
        get_info=ldap3.NONE,
        mode=ldap3.IP_V6_PREFERRED,  # all addresses of the name, not only its first
        connect_timeout=way.connect_timeout,
    )
    connection = ldap3.Connection(
        target,
        user=dn or None,
        # Bytes go out as they are; text would first go through a table that maps some letters to nothing.
        password=password.encode() if dn else None,
        authentication=ldap3.SIMPLE if dn else ldap3.ANONYMOUS,
        receive_timeout=way.receive_timeout,
        auto_referrals=False,  # a referral would hand the password to a server nobody configured
        check_names=False,
        read_only=True,
    )
    try:
        connection.open(read_server_info=False)
        if way.tls is TlsStrategy.before_bind:
            connection.start_tls(read_server_info=False)
        if not connection.bind(read_server_info=False):
            _refuse(connection.result)
        yield connection
    finally:
        with suppress(LDAPException, OSError):
            connection.unbind()
        if connection.socket is not None:  # ldap3 leaves it open where opening or TLS failed
            connection.socket.close()


def _refuse(result: dict[str, Any]) -> None:
    if result["result"] in _NOT_THE_PASSWORD:
        raise LDAPException(f"bind: {result['description']} {result['message']}")
    raise WrongPasswordError


def search(
    connection: Any, base: str, query: str, scope: str, attributes: Sequence[str]
) -> list[dict[str, Any]]:
    """
    Search, and return the entries; one that is not there or not readable is no entry, not a fault.

    Raises
    ------
    LDAPException
        The server answered with an error; a part of an answer is never taken for the whole.
    """
    connection.search(base, query, search_scope=scope, attributes=attributes)
    code = connection.result["result"]
    if code in {RESULT_NO_SUCH_OBJECT, RESULT_INSUFFICIENT_ACCESS_RIGHTS} and scope == ldap3.BASE:
        return []
    if code != RESULT_SUCCESS:
        raise LDAPException(f"search in {base}: {connection.result['description']}")
    return [entry for entry in connection.response if entry["type"] == "searchResEntry"]


def values_of(entry: dict[str, Any], attribute: str) -> list[str]:
    """Return an attribute's values as text; names of attributes know no case."""
    for name, values in entry["raw_attributes"].items():
        if name.lower() == attribute.lower():
            return [value.decode("utf-8", "replace") for value in values]
    return []
