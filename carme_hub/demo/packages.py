"""The Debian packages the demo site and the tests stand on, and how they get onto a machine.

Installing Slurm, MariaDB or slapd on an ordinary machine starts their services and edits files below /etc.
Here it must not: the demo site runs its own daemons in namespaces of its own. So no service is started while
packages are unpacked, the questions of the packages are answered with "leave it alone", and
/etc/nsswitch.conf is compared afterwards.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.demo.run import BuildError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

DEMO = (
    # Slurm and its accounting
    "slurm-wlm",
    "slurmdbd",
    "slurm-client",
    "libpmix-dev",  # for `srun --mpi=pmix`: Slurm asks for libpmix.so, which libpmix2 has not
    "munge",
    "mariadb-server",
    # the directory, and its people as accounts of the nodes
    "slapd",
    "ldap-utils",
    "nslcd",
    "libnss-ldapd",
    # namespaces, networks, processes
    "iproute2",
    "procps",
    "sudo",
    "tini",
    "util-linux",
    # what Apptainer calls, and what builds images
    "debian-archive-keyring",
    "debootstrap",
    "e2fsprogs",
    "fuse-overlayfs",
    "fuse3",
    "patchelf",
    "squashfs-tools",
    "squashfuse",
    "uidmap",
    # what Code-Server is compiled with
    "ca-certificates",
    "g++",
    "libkrb5-dev",
    "make",
    "pkg-config",
    "python3",
    "python3-venv",
)
"""What ``carme demo up`` needs."""

TEST = ("chromium", "curl", "fonts-dejavu-core", "openssl", "postgresql")
"""What only the tests need."""

ANSWERS = """\
slapd slapd/no_configuration boolean true
libnss-ldapd libnss-ldapd/nsswitch multiselect
libnss-ldapd:amd64 libnss-ldapd/nsswitch multiselect
nslcd nslcd/ldap-uris string ldapi:///
nslcd nslcd/ldap-base string dc=example,dc=org
"""
"""For debconf: no directory is made, and no name service of this machine asks one."""

UPDATE_SECONDS = 600
INSTALL_SECONDS = 3600

_POLICY = Path("/usr/sbin/policy-rc.d")
_NSSWITCH = Path("/etc/nsswitch.conf")


class PackageError(BuildError):
    """Packages could not be installed; the message says which and what to do."""


def missing(names: Iterable[str], status: str | None = None) -> list[str]:
    """Return those of `names` that are not installed, in their order.

    Parameters
    ----------
    names
        Names of Debian packages.
    status
        What ``dpkg-query`` says, a line ``NAME STATUS`` per package with the status abbreviated as in
        dpkg-query(1) (``ii`` is installed); asked when not given.
    """
    wanted = list(names)
    if status is None:
        # Its exit code is 1 as soon as one package is unknown, which is what we came to find out.
        status = subprocess.run(
            ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Abbrev}\n", *wanted],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        ).stdout
    lines = (line.split() for line in status.splitlines())
    installed = {words[0] for words in lines if len(words) > 1 and words[1] in {"ii", "hi"}}
    return [name for name in wanted if name not in installed]


def ensure(say: Callable[[str], None], names: Iterable[str] = DEMO) -> None:
    """Install what is missing of `names`, start nothing, and leave the machine's own configuration alone.

    Parameters
    ----------
    say
        Takes progress, one line at a time.
    names
        The packages; `DEMO`, or ``DEMO + TEST``.

    Raises
    ------
    PackageError
        When apt is not there, not allowed, or fails; with the end of what it said.
    """
    wanted = missing(names)
    if not wanted:
        return
    if os.geteuid() != 0:
        raise PackageError(
            f"These Debian packages are missing and only root can install them: {' '.join(wanted)}."
            " Run the same command with sudo."
        )
    say(f"packages: {len(wanted)} to install: {' '.join(wanted)}")
    before = _NSSWITCH.read_bytes() if _NSSWITCH.exists() else None
    with _no_services():
        _run(["apt-get", "update", "-qq"], "reading the package lists", UPDATE_SECONDS, say)
        if Path("/usr/bin/debconf-set-selections").exists():
            _run(["debconf-set-selections"], "answering the packages' questions", 60, say, text=ANSWERS)
        _install(wanted, say)
    if before is not None and _NSSWITCH.read_bytes() != before:
        _NSSWITCH.write_bytes(before)
        say("packages: an installed package had edited /etc/nsswitch.conf; it is as it was again")
    if left := missing(wanted):
        raise PackageError(f"apt finished, and yet these packages are not installed: {' '.join(left)}.")
    say("packages: all there")


@contextlib.contextmanager
def _no_services(policy: Path = _POLICY) -> Iterator[None]:
    """Forbid, while packages are installed, that their services start (policy-rc.d's exit code 101).

    A machine with a policy of its own keeps it: whoever wrote it decided for this machine.
    """
    if policy.exists():
        yield
        return
    policy.write_text(
        "#!/bin/sh\n# carme-hub: packages are being installed, no service starts meanwhile.\nexit 101\n"
    )
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    return {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "LC_ALL": "C.UTF-8"}


def _run(words: list[str], what: str, seconds: float, say: Callable[[str], None], *, text: str = "") -> None:
    say(f"packages: {what}")
    try:
        done = subprocess.run(
            words,
            input=text,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=seconds,
            check=False,
            env=_environment(),
        )
    except FileNotFoundError as error:
        raise PackageError(f"{words[0]} is not there: this needs a Debian machine.") from error
    except subprocess.TimeoutExpired as error:
        raise PackageError(
            f"{what} took more than {seconds:.0f} s; is the package mirror reachable?"
        ) from error
    if done.returncode:
        raise PackageError(f"{what} failed:\n{_tail(done.stdout)}")


def _install(wanted: list[str], say: Callable[[str], None]) -> None:
    """Run apt-get install; its own status lines become progress."""
    read_end, write_end = os.pipe()
    words = ["apt-get", "install", "-y", "-q", "--no-install-recommends"]
    words += ["-o", f"APT::Status-Fd={write_end}", "-o", "Dpkg::Use-Pty=0"]
    words += ["-o", "Dpkg::Options::=--force-confold", "-o", "DPkg::Lock::Timeout=300", *wanted]
    process = subprocess.Popen(
        words,
        pass_fds=[write_end],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=_environment(),
    )
    os.close(write_end)
    watcher = threading.Thread(target=_follow, args=(read_end, say), daemon=True)
    watcher.start()
    try:
        output, _ = process.communicate(timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        process.terminate()
        raise PackageError(
            f"Installing packages took more than {INSTALL_SECONDS} s and was stopped."
        ) from error
    watcher.join(timeout=5)
    if process.returncode:
        raise PackageError(f"apt could not install {' '.join(wanted)}:\n{_tail(output)}")


def _follow(read_end: int, say: Callable[[str], None]) -> None:
    last = -1
    with os.fdopen(read_end, errors="replace") as lines:
        for line in lines:
            step = progress(line)
            if step is None:
                continue
            name, percent = step
            # A line every ten percent: enough to see that it moves, few enough for a log file.
            if percent // 10 != last // 10:
                last = percent
                say(f"packages: {name} {percent} %")


def progress(line: str) -> tuple[str, int] | None:
    """Return what apt does and how far it is (0 to 100), or None when the line does not say.

    Notes
    -----
    The lines are ``dlstatus:N:PERCENT:TEXT`` while fetching and ``pmstatus:PACKAGE:PERCENT:TEXT`` while
    unpacking (apt's README.progress-reporting). A package's name may itself hold a colon (``libc6:amd64``).
    """
    kind, _, rest = line.partition(":")
    if kind not in {"dlstatus", "pmstatus"}:
        return None
    for field in rest.split(":"):
        with contextlib.suppress(ValueError):
            if "." in field:
                return ("fetching" if kind == "dlstatus" else "installing", int(float(field)))
    return None


def _tail(text: str, lines: int = 20) -> str:
    return "\n".join(text.strip().splitlines()[-lines:])


if __name__ == "__main__":
    ensure(lambda line: print(line, flush=True), DEMO + TEST if "--test" in sys.argv else DEMO)  # noqa: T201 - progress is what it is for
