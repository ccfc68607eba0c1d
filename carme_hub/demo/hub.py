"""The hub of the demo site: what `etc/jupyterhub_config.py` expects to find, and the hub itself."""

from __future__ import annotations

import shutil
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.authenticator.secretbox import SecretBox, new_key_file
from carme_hub.authenticator.store import Store
from carme_hub.demo.layout import HEAD_ADDRESS, Layout
from carme_hub.demo.services import environment

if TYPE_CHECKING:
    from carme_hub.demo.accounts import Account
    from carme_hub.demo.services import Services

ETC = Path("/etc/jupyterhub")
DATA = Path("/var/lib/carme-hub")
SCHEME = "http"  # the site is reached on loopback only


def start(layout: Layout, services: Services, people: list[Account], proxy: str) -> None:
    """Put the configuration in its place, enrol the people, start the hub (it starts its proxy)."""
    ETC.mkdir(exist_ok=True)
    DATA.mkdir(mode=0o700, exist_ok=True)
    kept_key = layout.state / "carme.key"
    if not kept_key.exists():
        new_key_file(kept_key)
    shutil.copy2(kept_key, ETC / "carme.key")
    shutil.copy(layout.etc / "jupyterhub_config.py", ETC)
    enrol(people)
    programs = f"{Path(sys.executable).parent}:{Path(proxy).parent}"
    services.start(
        "hub",
        ["jupyterhub", "--config", str(ETC / "jupyterhub_config.py")],
        cwd=DATA,
        env=environment(PATH=f"{programs}:{environment()['PATH']}"),
    )


def enrol(people: list[Account]) -> None:
    """Give each person without a device the one whose secret `carme demo status` prints."""
    store = Store(f"sqlite:///{DATA / 'carme.sqlite'}", SecretBox.load(str(ETC / "carme.key")))
    try:
        for person in people:
            if not store.devices(person.username):
                store.add_totp(person.username, person.totp_secret)
    finally:
        store.close()


def ready() -> bool:
    """Say whether the hub answers through its proxy."""
    try:
        with urllib.request.urlopen(f"{SCHEME}://{HEAD_ADDRESS}:8000/hub/health", timeout=5):  # noqa: S310  ours
            return True
    except OSError:
        return False
