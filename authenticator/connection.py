"""One connection to one directory server: TLS, binds, search. It blocks, so only threads come here."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import ldap3
from ldap3.core.exceptions import LDAPException
from ldap3.core.results import (
    RESULT_CONSTRAINT_VIOLATION,
    RESULT_INAPPROPRIATE_AUTHENTICATION,
    RESULT_INVALID_CREDENTIALS,
    RESULT_INVALID_DN_SYNTAX,
    RESULT_NO_SUCH_OBJECT,
    RESULT_SUCCESS,
    RESULT_UNWILLING_TO_PERFORM,
)
from ldapauthenticator.ldapauthenticator import TlsStrategy

from carme_hub.authenticator import policy
from carme_hub.authenticator.directory_errors import WrongPasswordError
from carme_hub.authenticator.servers import Server

CUT_AGAIN = 0.2  # seconds between two attempts to break a connection off

# Answers to a bind that speak about the person. All others are about the server (RFC 4511, appendix A).
_ABOUT_THE_PERSON = frozenset(
    {
        RESULT_INAPPROPRIATE_AUTHENTICATION,
        RESULT_INVALID_CREDENTIALS,
        RESULT_INVALID_DN_SYNTAX,
        RESULT_NO_SUCH_OBJECT,
    }
)
# The same, but with a cause that an admin wants to know: locked, disabled, expired.
_ABOUT_THE_ACCOUNT = frozenset({RESULT_CONSTRAINT_VIOLATION, RESULT_UNWILLING_TO_PERFORM})
_POLICY_ANSWERS = {
    policy.PASSWORD_EXPIRED: "the password has expired",
    policy.ACCOUNT_LOCKED: "the account is locked",
    policy.CHANGE_AFTER_RESET: "the password has to be changed first",
}


class MustChangeError(WrongPasswordError):
    """The password was right, but after a reset the directory lets its owner do nothing but change it."""


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
        # The end of the handshake and the first question go out together; otherwise the question would wait
        # until the server has acknowledged that end, which systems put off for 40 ms.
        connection.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The handshake comes after the assignment, so that `_cut` finds the socket it has to break off.
        connection.socket = self._context.wrap_socket(
            connection.socket, server_hostname=connection.server.host, do_handshake_on_connect=False
        )
        connection.socket.do_handshake()


@dataclass(frozen=True)
class Way:
    """How servers are reached: encryption, who vouches for their certificates, time-outs in seconds."""

    tls: TlsStrategy
    verified: VerifiedTls | None
    connect_timeout: float
    receive_timeout: int


@dataclass(frozen=True)
class Target:
    """A server, and until when (`time.monotonic`) all that is asked of it has to be over."""

    server: Server
    until: float


def _cut(connection: Any, until: float, done: threading.Event) -> None:
    """Break a connection off at its deadline: ldap3's own time-out starts anew with each byte that comes."""
    while not done.wait(max(until - time.monotonic(), CUT_AGAIN)):
        with suppress(OSError, TypeError):  # there is no socket yet, or no longer
            # Not the TLS socket's own method, after which it would go on without TLS.
            socket.socket.shutdown(connection.socket, socket.SHUT_RDWR)


@contextmanager
def _one_kind_of_error() -> Iterator[None]:
    """Of an answer that is no LDAP at all, ldap3 makes an IndexError, a KeyError and many others."""
    try:
        yield
    except (LDAPException, OSError):
        raise
    except Exception as error:
        raise LDAPException(f"the answer is not LDAP ({type(error).__name__})") from error


@contextmanager
def opened(way: Way, target: Target) -> Iterator[Any]:
    """
    Open a connection with TLS, on which nobody is bound yet, and close it whatever happens.

    Parameters
    ----------
    way
        How to get there.
    target
        Where to, and until when.

    Raises
    ------
    LDAPException, OSError
        There is no such server, or not one that may be trusted.
    """
    server = ldap3.Server(
        target.server.host,
        port=target.server.port,
        use_ssl=way.tls is TlsStrategy.on_connect,
        tls=way.verified,
        get_info=ldap3.NONE,
        mode=ldap3.IP_V6_PREFERRED,  # all addresses of the name, not only its first
        connect_timeout=way.connect_timeout,
    )
    connection = ldap3.Connection(
        server,
        authentication=ldap3.ANONYMOUS,
        receive_timeout=way.receive_timeout,
        auto_referrals=False,  # a referral would hand the password to a server nobody configured
        check_names=False,
        read_only=True,
    )
    done = threading.Event()
    threading.Thread(target=_cut, args=(connection, target.until, done), daemon=True).start()
    try:
        with _one_kind_of_error():
            connection.open(read_server_info=False)
            if way.tls is TlsStrategy.before_bind:
                connection.start_tls(read_server_info=False)
        yield connection
    finally:
        with suppress(LDAPException, OSError):
            connection.unbind()
        if connection.socket is not None:  # ldap3 leaves it open where opening or TLS failed
            connection.socket.close()
        done.set()


def bind(connection: Any, dn: str, password: str) -> None:
    """
    Become somebody on an open connection, whoever one was on it before (RFC 4511, section 4.2).

    Parameters
    ----------
    connection
        As `opened` gives it.
    dn, password
        Who; neither is empty.

    Raises
    ------
    WrongPasswordError
        The server refused the password, knows no such entry, or lets it do nothing now.
    LDAPException, OSError
        Everything else, which says nothing about the password.
    """
    # ldap3 opens a closed connection anew by itself, and then without TLS.
    is_plain = not isinstance(connection.socket, ssl.SSLSocket)
    if connection.closed or (connection.server.tls is not None and is_plain):
        raise LDAPException("the connection was closed before the bind")
    connection.user = dn
    # Bytes go out as they are; text would first go through a table that maps some letters to nothing.
    connection.password = password.encode()
    connection.authentication = ldap3.SIMPLE
    with _one_kind_of_error():
        accepted = connection.bind(read_server_info=False, controls=[(policy.CONTROL, False, None)])
    error = policy.error_of(connection.result)
    if not accepted:
        _refuse(connection.result, _POLICY_ANSWERS.get(error) if error is not None else None)
    if error == policy.CHANGE_AFTER_RESET:
        raise MustChangeError(_POLICY_ANSWERS[error])


def _refuse(result: dict[str, Any], cause: str | None = None) -> None:
    said = f"{result['description']} {policy.words_of(result)}".strip()
    if cause is not None:
        raise WrongPasswordError(cause)
    if result["result"] in _ABOUT_THE_PERSON:
        raise WrongPasswordError
    if result["result"] in _ABOUT_THE_ACCOUNT:
        raise WrongPasswordError(said)
    raise LDAPException(f"bind: {said}")


def search(
    connection: Any, base: str, query: str, scope: str, attributes: Sequence[str]
) -> list[dict[str, Any]]:
    """
    Search, and return the entries; one that is not there, or cannot be, is no entry, not a fault.

    Raises
    ------
    LDAPException
        The server answered with an error; a part of an answer is never taken for the whole.
    """
    with _one_kind_of_error():
        connection.search(base, query, search_scope=scope, attributes=attributes)
    code = connection.result["result"]
    if scope == ldap3.BASE and code in {RESULT_NO_SUCH_OBJECT, RESULT_INVALID_DN_SYNTAX}:
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
