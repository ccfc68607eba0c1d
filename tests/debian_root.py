"""Other releases of Debian as folders, for their Slurm: built once with debootstrap, kept in the cache.

``python -m tests.debian_root trixie`` builds one and prints where it is.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.demo import apptainer, cache
from carme_hub.demo.run import as_command, logged

if TYPE_CHECKING:
    from collections.abc import Callable

# Debian 13, and the one that comes after it: Slurm 24.11 and 26.05 (2026-11).
RELEASES = ("trixie", "forky")
PACKAGES = (
    *("slurm-wlm", "slurm-client", "slurmdbd", "munge", "mariadb-server"),
    *("ca-certificates", "iproute2", "procps", "python3", "util-linux"),
    # what Apptainer calls
    *("fuse-overlayfs", "fuse3", "squashfuse", "uidmap"),
)
# debootstrap knows a release by the script of its name; that of unstable serves those it does not know yet.
SCRIPT = Path("/usr/share/debootstrap/scripts/sid")
SECONDS = 1800


def ensure(release: str, say: Callable[[str], None]) -> Path:
    """Return the folder with a Debian release in it; nothing may be written there.

    Parameters
    ----------
    release
        Its code name.
    say
        Takes progress, one line at a time.

    Raises
    ------
    BuildError
        When it cannot be built; with the end of the log.
    """
    mirror = apptainer.mirror(say)
    store = cache.root()
    target = store / f"debian-{release}-{cache.key(release, mirror, ' '.join(PACKAGES))}"
    with cache.publish(target) as place:
        if place is not None:
            say(f"debian: installing a minimal {release} with its Slurm (a minute, once)")
            words = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
            logged(
                [*words, release, place, mirror, SCRIPT],
                f"Installing Debian {release}",
                log=store / "logs" / f"{target.name}.log",
                seconds=SECONDS,
            )
            for package in place.glob("var/cache/apt/archives/*.deb"):
                package.unlink()
            place.chmod(0o755)
    return target


def main(say: Callable[[str], None]) -> str:
    """Build the releases named on the command line, or all."""
    return "\n".join(str(ensure(release, say)) for release in sys.argv[1:] or RELEASES)


if __name__ == "__main__":
    raise SystemExit(as_command(main))
