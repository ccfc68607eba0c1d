"""Apptainer for a machine that has none: the distribution's package, unpacked into the cache, not installed.

Debian 12 and 13 have no package of their own. Debian's unstable has one, which wants a newer C library than
Debian 12's. So the package and the four libraries it needs are fetched with apt (which checks the
signatures) from a list of sources of their own, unpacked, and the two binaries pointed at those libraries.

Apptainer finds its configuration and its session folder relative to where its binary lies, so the tree needs
no mount over /usr or /etc: ``TREE/bin/apptainer`` runs as it is, for every user, in every namespace.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.demo import cache as store
from carme_hub.demo.run import BuildError, logged

if TYPE_CHECKING:
    from collections.abc import Callable

PACKAGE = "apptainer"
LIBRARIES = ("libc6", "libseccomp2", "libsqlite3-0", "zlib1g")
RECIPE = "2"
"""To be counted up when this module makes the tree differently."""

DEFAULT_MIRROR = "https://deb.debian.org/debian"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"

_APT_SECONDS = 600

_APT_CONF = """\
Dir::State "{folder}/state";
Dir::State::Lists "{folder}/state/lists";
Dir::State::status "{folder}/state/status";
Dir::Cache "{folder}/cache";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{folder}/sources";
Dir::Etc::Preferences "/dev/null";
Dir::Etc::PreferencesParts "/dev/null";
APT::Sandbox::User "root";
"""

_SOURCES = """\
Types: deb
URIs: {mirror}
Suites: sid
Components: main
Signed-By: {keyring}
"""


def ensure(cache: Path, say: Callable[[str], None]) -> Path | None:
    """Return a tree with Apptainer, made if it is not there; None when the machine has one of its own.

    Parameters
    ----------
    cache
        The cache's folder. The tree holds absolute paths below it.
    say
        Takes progress, one line at a time.

    Returns
    -------
    Path or None
        A folder with ``bin/apptainer``, readable by every user.

    Raises
    ------
    BuildError
        When apt cannot fetch the packages, or what came out does not run.
    """
    own = shutil.which(PACKAGE)
    if own is not None and _works(Path(own)):
        return None
    target = cache / f"apptainer-{store.key(RECIPE, *LIBRARIES, str(cache))}"
    with store.publish(target) as place:
        if place is not None:
            _build(place, target, cache / "logs" / "apptainer.log", say)
    if not _works(command(target)):
        # It holds its own path, so it can be tried only in its place.
        shutil.rmtree(target)
        raise BuildError(f"The Apptainer unpacked in {target} does not run on this machine; it was removed.")
    return target


def command(tree: Path | None) -> Path:
    """Return the command to call: the tree's, or the machine's own for None.

    Raises
    ------
    BuildError
        When the machine has none after all.
    """
    if tree is not None:
        return tree / "bin" / PACKAGE
    own = shutil.which(PACKAGE)
    if own is None:
        raise BuildError("There is no apptainer on PATH.")
    return Path(own)


def mounts(tree: Path | None) -> list[list[str]]:
    """Return the commands that put ``apptainer`` on everybody's PATH, as /usr/local/bin/apptainer.

    To be run by root in a private mount namespace, where they change nothing for the rest of the machine.
    Empty for None. See `devices` for the other thing that Apptainer needs.
    """
    if tree is None:
        return []
    here = "/usr/local/bin"
    return [["mount", "-t", "overlay", "overlay", "-o", f"lowerdir={tree}/bin:{here}", here]]


def devices(scratch: Path) -> list[list[str]]:
    """Return the commands that make /dev/fuse usable by everybody, as it is on machines with udev.

    Images are mounted by squashfuse as the person who runs them. Without udev the device is often root's
    alone. To be run by root in a private mount namespace; a namespace with a /dev of its own better makes the
    node there (``mknod -m 666 /dev/fuse c 10 229``).

    Parameters
    ----------
    scratch
        An empty folder; a small tmpfs is mounted on it.
    """
    return [
        ["mount", "-t", "tmpfs", "-o", "mode=755,size=64k", "tmpfs", str(scratch)],
        ["mknod", "-m", "666", f"{scratch}/fuse", "c", "10", "229"],
        ["mount", "--bind", f"{scratch}/fuse", "/dev/fuse"],
    ]


def mirror(say: Callable[[str], None], *, security: bool = False) -> str:
    """Return the address of the Debian mirror this machine is set up to use.

    Parameters
    ----------
    say
        Told when the machine names none and the public default is taken.
    security
        The mirror of security updates instead of the one of the distribution.

    Returns
    -------
    str
        Without a slash at the end.
    """
    label = "Debian-Security" if security else "Debian"
    done = subprocess.run(
        [
            "apt-get",
            "indextargets",
            "--format",
            "$(REPO_URI) $(LABEL)",
            "Created-By: Packages",
            "Origin: Debian",
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for line in done.stdout.splitlines():
        address, _, found = line.partition(" ")
        if found == label:
            return address.rstrip("/")
    default = DEFAULT_MIRROR + ("-security" if security else "")
    say(f"apt names no mirror of {label} on this machine; taking {default}")
    return default


def _works(path: Path) -> bool:
    try:
        done = subprocess.run([path, "--version"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _build(place: Path, target: Path, log: Path, say: Callable[[str], None]) -> None:
    work = place.parent
    say("apptainer: fetching the package")
    debs = _fetch(work, log, say)
    for name, deb in debs.items():
        goal = place if name == PACKAGE else work / "libraries"
        logged(["dpkg", "-x", deb, goal], f"Unpacking {deb.name}", log=log, seconds=120)
    library = place / "lib"
    library.mkdir()
    for found in (work / "libraries").rglob("*.so*"):
        if found.parent.name.endswith("-linux-gnu"):
            shutil.copy2(found, library / found.name, follow_symlinks=False)
    _relocate(place)
    loader = next(library.glob("ld-linux*.so*"))
    binaries = [place / "usr/bin/apptainer", *place.glob("usr/lib/*/apptainer/bin/starter")]
    words = ["patchelf", "--set-interpreter", str(target / "lib" / loader.name)]
    # As RPATH, not RUNPATH: it has to hold for the libraries' own libraries too.
    words += ["--force-rpath", "--set-rpath", str(target / "lib")]
    for binary in binaries:
        logged([*words, binary], f"Pointing {binary.name} at its libraries", log=log, seconds=60)
    (place / "bin").mkdir()
    # An absolute goal: this folder is laid over /usr/local/bin, where a relative one would miss.
    (place / "bin" / PACKAGE).symlink_to(target / "usr/bin/apptainer")


def _relocate(place: Path) -> None:
    """Lay out etc and var where the moved binaries look for them.

    The command takes the folder above its bin/ as prefix, the starter the one above its multiarch folder:
    ``usr`` and ``usr/lib``. Both look for ``etc`` and ``var`` below.
    """
    for name in ("etc", "var"):
        (place / name).rename(place / "usr" / name)
        (place / "usr" / "lib" / name).symlink_to(f"../{name}")
    (place / "usr/var/lib/apptainer/mnt/session").mkdir(parents=True, exist_ok=True)


def _fetch(work: Path, log: Path, say: Callable[[str], None]) -> dict[str, Path]:
    """Download the packages; return the file of each."""
    env = {**os.environ, "LC_ALL": "C.UTF-8"}
    if not _offered():
        env["APT_CONFIG"] = str(_unstable(work, say))
        logged(
            ["apt-get", "update"], "Reading unstable's package list", log=log, seconds=_APT_SECONDS, env=env
        )
    folder = work / "debs"
    folder.mkdir()
    words = ["apt-get", "download", PACKAGE, *LIBRARIES]
    logged(words, "Fetching Apptainer's package", log=log, seconds=_APT_SECONDS, env=env, cwd=folder)
    return {deb.name.partition("_")[0]: deb for deb in folder.glob("*.deb")}


def _offered() -> bool:
    """Say whether the machine's own sources have the package."""
    words = ["apt-cache", "show", "--no-all-versions", PACKAGE]
    return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode == 0


def _unstable(work: Path, say: Callable[[str], None]) -> Path:
    """Make a state of apt of its own, which knows only unstable; return its configuration file."""
    folder = work / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "sources"):
        (folder / name).mkdir(parents=True)
    (folder / "state" / "status").touch()
    (folder / "sources" / "unstable.sources").write_text(_SOURCES.format(mirror=mirror(say), keyring=KEYRING))
    config = folder / "apt.conf"
    config.write_text(_APT_CONF.format(folder=folder))
    return config
