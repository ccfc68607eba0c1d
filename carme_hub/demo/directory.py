"""The directory of the demo site, and its people as accounts of the site's machines."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.demo import ldap
from carme_hub.demo.layout import DOMAIN, HEAD, HEAD_ADDRESS, HOMES
from carme_hub.demo.services import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

    from carme_hub.demo.accounts import Account
    from carme_hub.demo.services import Services

NAMES = (f"ldap.{DOMAIN}", f"{HEAD}.{DOMAIN}", HEAD, HEAD_ADDRESS, "localhost", "127.0.0.1")
CA = Path("/etc/jupyterhub/ca.pem")
# Where getent and Slurm look people up: the machine's own accounts first, then the directory.
NSSWITCH = """\
passwd: files ldap
group: files ldap
shadow: files
hosts: files dns
networks: files
protocols: files
services: files
"""


def start(services: Services, people: list[Account], groups: Mapping[str, int]) -> None:
    """Load the people into a new directory, start it, and let the machine ask it for names."""
    certificates = ldap.make_ca(Path("/var/lib/carme-ca"), NAMES)
    CA.parent.mkdir(exist_ok=True)
    shutil.copy(certificates.ca, CA)
    folder = Path("/var/lib/carme-ldap")
    entries = [
        ldap.Person(
            username=person.username,
            full_name=person.name,
            uid=person.uid,
            gid=person.uid,
            password=person.password,
            groups=person.groups,
            home=str(HOMES / person.username),
        )
        for person in people
    ]
    prepared = ldap.prepare(folder, entries, groups, certificates)
    secret = CA.with_name("ldap.password")
    secret.touch(mode=0o600)
    secret.write_text(prepared.reader_password + "\n")
    urls = ["ldap:///", "ldaps:///", "ldapi://%2Frun%2Fldapi"]
    services.start("slapd", ldap.command(folder, urls), env=environment())
    ldap.wait_ready(HEAD_ADDRESS, 636, CA)
    Path("/etc/nsswitch.conf").write_text(NSSWITCH)
    conf = Path("/etc/nslcd.conf")
    conf.write_text(ldap.nslcd_conf(f"ldap://{HEAD}.{DOMAIN}", ldap.BASE, CA))
    conf.chmod(0o600)
    Path("/run/nslcd").mkdir()
    shutil.chown("/run/nslcd", "nslcd", "nslcd")
    services.start("nslcd", ["nslcd", "--nofork"], env=environment())
