"""Addresses of directory servers as people write them. No I/O."""

import re
from dataclasses import dataclass

_SERVER = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(?::(?P<port>[0-9]{1,5}))?")
MAX_PORT = 65535


@dataclass(frozen=True)
class Server:
    """Host name or address, and port."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_server(text: str, default_port: int) -> Server:
    """
    Read ``host``, ``host:port``, or an IPv6 address in brackets.

    Raises
    ------
    ValueError
        It is none of these; the sentence names the setting.
    """
    match = _SERVER.fullmatch(text.strip())
    port = int(match["port"] or default_port) if match else 0
    if match is None or not 0 < port <= MAX_PORT:
        raise ValueError(
            f"CarmeAuthenticator.server_address: {text!r} is not a server. Write a host name, 'host:port' or "
            "'[IPv6 address]:port', without a scheme; tls_strategy says how it is encrypted."
        )
    return Server(match["six"] or match["host"], port)
