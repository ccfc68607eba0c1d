"""A real directory for the demo site and the tests: slapd with TLS, its own CA, people and groups.

slapd runs as whoever starts it, on whatever addresses it is given, from one private folder.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import ipaddress
import os
import secrets
import shutil
import socket
import ssl
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

BASE = "dc=example,dc=org"
SLAPD = "/usr/sbin/slapd"
SLAPADD = "/usr/sbin/slapadd"
MODULES = "/usr/lib/ldap"
SCHEMAS = "/etc/ldap/schema"
DATABASE_BYTES = 64 * 2**20
VALID_DAYS = 3650
TIMEOUT = 30  # seconds


class LdapError(Exception):
    """The directory could not be made or does not answer; the sentence says what happened."""


@dataclass(frozen=True)
class Person:
    """Somebody in the directory, who is a POSIX account at the same time (uid and gid are numbers)."""

    username: str
    full_name: str
    uid: int
    gid: int
    password: str = field(repr=False)
    groups: Sequence[str] = ()
    home: str = ""
    shell: str = "/bin/bash"


@dataclass(frozen=True)
class Certificates:
    """Files in PEM: the CA (for everybody), the server's certificate, the server's key (0600)."""

    ca: Path
    certificate: Path
    key: Path


@dataclass(frozen=True)
class Prepared:
    """A directory ready to start: its base, an account that may read, one that may change everything."""

    base: str
    reader_dn: str
    reader_password: str = field(repr=False)
    manager_dn: str
    manager_password: str = field(repr=False)


def make_ca(folder: Path, names: Sequence[str], *, issuer: str = "Demo CA") -> Certificates:
    """
    Make a certificate authority, and a certificate of it for one server.

    Parameters
    ----------
    folder : Path
        Where the files go.
    names : sequence of str
        Host names and addresses that the server is reached by.
    issuer : str
        The authority's name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    ca = (
        _certificate(ca_name, ca_name, ca_key, ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    server = (
        _certificate(name, ca_name, key, ca_key)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(text) for text in names]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    made = Certificates(folder / "ca.pem", folder / "server.pem", folder / "server.key")
    made.ca.write_bytes(ca.public_bytes(serialization.Encoding.PEM))
    made.certificate.write_bytes(server.public_bytes(serialization.Encoding.PEM))
    _write_private(
        made.key,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode(),
    )
    for public in (made.ca, made.certificate):
        public.chmod(0o644)
    return made


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=VALID_DAYS))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False
        )
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def prepare(
    folder: Path,
    people: Sequence[Person],
    groups: Mapping[str, int],
    certificates: Certificates,
    *,
    base: str = BASE,
) -> Prepared:
    """
    Write slapd's configuration and load the directory; what was in the folder before is gone.

    Parameters
    ----------
    folder : Path
        Private folder of this directory (0700).
    people : sequence of Person
        They go below ``ou=people``.
    groups : mapping of str to int
        Name and POSIX number of each group; below ``ou=groups`` as groupOfNames, below ``ou=posix`` as
        posixGroup, where each person's own group is too.
    certificates : Certificates
        What slapd shows to its clients.
    base : str
        The directory's suffix; its first part is a ``dc``.

    Returns
    -------
    Prepared
        Accounts with new random passwords.

    Raises
    ------
    LdapError
        slapadd refused; its words are in the sentence.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "data").mkdir(parents=True, mode=0o700)
    folder.chmod(0o700)
    prepared = Prepared(
        base, f"cn=reader,{base}", secrets.token_urlsafe(24), f"cn=manager,{base}", secrets.token_urlsafe(24)
    )
    _write_private(folder / "slapd.conf", _slapd_conf(folder, certificates, prepared))
    ldif = "\n\n".join(_entries(people, groups, prepared)) + "\n"
    done = subprocess.run(
        [SLAPADD, "-f", str(folder / "slapd.conf")],
        input=ldif,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if done.returncode:
        raise LdapError(f"slapadd could not load the directory into {folder}: {done.stderr.strip()}")
    return prepared


def _slapd_conf(folder: Path, certificates: Certificates, prepared: Prepared) -> str:
    includes = "\n".join(
        f"include {SCHEMAS}/{name}.schema" for name in ("core", "cosine", "nis", "inetorgperson")
    )
    return f"""{includes}
pidfile {folder}/slapd.pid
modulepath {MODULES}
moduleload back_mdb
TLSCACertificateFile {certificates.ca}
TLSCertificateFile {certificates.certificate}
TLSCertificateKeyFile {certificates.key}
TLSVerifyClient never
# No password in plain text: a bind needs TLS, or the machine's own socket.
security simple_bind=128
localSSF 256

database mdb
suffix "{prepared.base}"
directory {folder}/data
maxsize {DATABASE_BYTES}
index objectClass,uid,uidNumber,gidNumber,member,memberUid eq
rootdn "{prepared.manager_dn}"
rootpw {hash_password(prepared.manager_password)}
access to attrs=userPassword by anonymous auth by self =wx by * none
access to * by * read
"""


def _entries(people: Sequence[Person], groups: Mapping[str, int], prepared: Prepared) -> list[str]:
    base = prepared.base
    name = base.split(",", 1)[0].removeprefix("dc=")
    entries = [f"dn: {base}\nobjectClass: dcObject\nobjectClass: organization\ndc: {name}\no: {name}"]
    entries += [
        f"dn: ou={ou},{base}\nobjectClass: organizationalUnit\nou: {ou}"
        for ou in ("people", "groups", "posix")
    ]
    entries.append(
        f"dn: {prepared.reader_dn}\nobjectClass: organizationalRole\nobjectClass: simpleSecurityObject\n"
        f"cn: reader\nuserPassword: {hash_password(prepared.reader_password)}"
    )
    entries += [_person(person, base) for person in people]
    entries += [
        f"dn: cn={person.username},ou=posix,{base}\nobjectClass: posixGroup\ncn: {person.username}\n"
        f"gidNumber: {person.gid}"
        for person in people
    ]
    for group, number in groups.items():
        members = [person.username for person in people if group in person.groups]
        # groupOfNames wants a member at all times: an empty group has its own name in it.
        dns = [f"uid={member},ou=people,{base}" for member in members] or [f"cn={group},ou=groups,{base}"]
        entries.append(
            "\n".join(
                [f"dn: cn={group},ou=groups,{base}", "objectClass: groupOfNames", f"cn: {group}"]
                + [f"member: {dn}" for dn in dns]
            )
        )
        entries.append(
            "\n".join(
                [
                    f"dn: cn={group},ou=posix,{base}",
                    "objectClass: posixGroup",
                    f"cn: {group}",
                    f"gidNumber: {number}",
                ]
                + [f"memberUid: {member}" for member in members]
            )
        )
    return entries


def _person(person: Person, base: str) -> str:
    full_name = base64.b64encode(person.full_name.encode()).decode()
    surname = base64.b64encode(person.full_name.split()[-1].encode()).decode()
    return f"""dn: uid={person.username},ou=people,{base}
objectClass: inetOrgPerson
objectClass: posixAccount
uid: {person.username}
cn:: {full_name}
sn:: {surname}
uidNumber: {person.uid}
gidNumber: {person.gid}
homeDirectory: {person.home or f"/srv/home/{person.username}"}
loginShell: {person.shell}
userPassword: {hash_password(person.password)}"""


def hash_password(password: str) -> str:
    """Hash a password as every slapd understands it (salted SHA-1; these passwords are random and long)."""
    salt = os.urandom(16)
    digest = hashlib.sha1(password.encode() + salt, usedforsecurity=False).digest()
    return "{SSHA}" + base64.b64encode(digest + salt).decode()


def command(folder: Path, urls: Sequence[str]) -> list[str]:
    """
    Return the command that runs a prepared directory in the foreground.

    Parameters
    ----------
    folder : Path
        As given to `prepare`.
    urls : sequence of str
        Where it listens, for example ``["ldap://127.0.0.1:1389", "ldaps://127.0.0.1:1636", "ldapi://%2Frun%2Fldapi"]``.
    """
    # Any -d keeps it in the foreground; 0 is the level of the messages.
    return [SLAPD, "-f", str(folder / "slapd.conf"), "-h", " ".join(urls), "-d", "0"]


def wait_ready(host: str, port: int, ca: Path, *, tls: bool = True, timeout: float = TIMEOUT) -> None:
    """
    Wait until slapd takes connections (with `tls`: on its ldaps port, and has finished a verified handshake).

    Raises
    ------
    LdapError
        It did not within `timeout` seconds.
    """
    context = ssl.create_default_context(cafile=str(ca))
    until = time.monotonic() + timeout
    while True:
        try:
            with socket.create_connection((host, port), timeout=1) as plain:
                if tls:
                    with context.wrap_socket(plain, server_hostname=host):
                        return
                return
        except OSError as error:
            if time.monotonic() > until:
                raise LdapError(
                    f"The directory on {host}:{port} did not answer within {timeout:g} s: {error}."
                ) from error
        time.sleep(0.05)


def nslcd_conf(uri: str, base: str, ca: Path | str) -> str:
    """
    Return an nslcd.conf, so that the directory's people are the machine's accounts.

    Parameters
    ----------
    uri : str
        Where slapd is, for example ``ldap://10.74.0.1``; a plain one is upgraded by StartTLS.
    base : str
        The directory's suffix.
    ca : Path or str
        The authority's certificate, readable by nslcd.
    """
    start_tls = "ssl start_tls\n" if uri.startswith("ldap:") else ""
    return f"""uid nslcd
gid nslcd
uri {uri}
base {base}
base passwd ou=people,{base}
base group ou=posix,{base}
{start_tls}tls_reqcert demand
tls_cacertfile {ca}
bind_timelimit 3
timelimit 5
idle_timelimit 60
reconnect_retrytime 2
"""


def _write_private(path: Path, text: str) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
