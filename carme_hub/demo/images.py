"""The job images of the demo site: from the definition files in ``singularity/`` to SIF files in the cache.

``python -m carme_hub.demo.images`` makes everything that images are made of, and the images.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from carme_hub.demo import apptainer, codeserver
from carme_hub.demo import cache as store
from carme_hub.demo.run import BuildError, as_command, logged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

DEFINITIONS = Path(__file__).resolve().parents[1] / "singularity"
BUILD_SECONDS = 3600
# Names a folder of .vsix files: extensions that everybody has in Code-Server.
EXTENSIONS = "CODE_SERVER_EXTENSIONS"
BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class Image:
    """How one image is made.

    Parameters
    ----------
    definition
        The file in `DEFINITIONS`.
    parent
        The name of the image it builds on; None for one that starts from Debian.
    code_server
        Whether Code-Server is copied in.
    """

    definition: str
    parent: str | None = None
    code_server: bool = False


IMAGES = {
    "system": Image("system.def"),
    "base": Image("base.def", parent="system", code_server=True),
    "ml": Image("ml.def", parent="base"),
}

# Run by a shell in a mount namespace of its own. $1 is an empty folder, the rest is the command. A build
# without the full set of root's capabilities goes through a user namespace, for which root needs a range of
# ids; the device is made usable as in apptainer.devices. The machine's own files stay as they are.
_NAMESPACE = """\
scratch=$1
shift
mount -t tmpfs -o mode=755,size=1m tmpfs "$scratch"
mknod -m 666 "$scratch/fuse" c 10 229
mount --bind "$scratch/fuse" /dev/fuse
for name in subuid subgid; do
    echo root:1000000:65536 > "$scratch/$name"
    mount --bind "$scratch/$name" "/etc/$name"
done
exec "$@"
"""


def copied(definition: str) -> list[str]:
    """Return the files and folders a definition copies in: the first words of the lines below ``%files``.

    What comes as a build argument (``{{ … }}``) is left out: it has a key of its own.
    """
    found = []
    inside = False
    for line in definition.splitlines():
        if line.startswith("%"):
            inside = line.split()[0] == "%files"
        elif inside and line.strip() and not line.lstrip().startswith(("#", "{{")):
            found.append(line.split()[0])
    return found


def content(path: Path) -> list[str | Path]:
    """Return what a copied file or folder counts as in a key: a folder as all its files."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return [part for file in files for part in (str(file.relative_to(path)), file)]


def extensions(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return Code-Server's extensions that the site gives to its images, by name.

    Raises
    ------
    BuildError
        When the folder that ``CODE_SERVER_EXTENSIONS`` names is none, or a ``.vsix`` in it is no extension.
    """
    named = environ.get(EXTENSIONS, "")
    if not named:
        return []
    folder = Path(named)
    if not folder.is_dir():
        raise BuildError(f"{EXTENSIONS} names {named}, which is no folder.")
    found = sorted(folder.glob("*.vsix"))
    for vsix in found:
        try:
            with zipfile.ZipFile(vsix) as packed:
                json.loads(packed.read("extension/package.json"))
        except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
            raise BuildError(f"{vsix} is no extension of Code-Server: {error}.") from error
    return found


def content_key(name: str, definitions: Path = DEFINITIONS) -> str:
    """Return a key of all that an image is built from.

    Parameters
    ----------
    name
        One of `IMAGES`.
    definitions
        The folder with the definition files.
    """
    image = IMAGES[name]
    path = definitions / image.definition
    parts: list[str | Path] = [
        path,
        *(part for name in copied(path.read_text(encoding="utf-8")) for part in content(definitions / name)),
    ]
    if image.parent:
        parts.append(content_key(image.parent, definitions))
    if image.code_server:
        parts.append(codeserver.content_key())
        for vsix in extensions():
            parts += [vsix.name, vsix]
    return store.key(*parts)


def step(line: str) -> str | None:
    """Return what a build is doing, when this line of its output begins something; else None.

    The definition files say ``carme: …`` themselves; the rest are debootstrap's and Apptainer's own words.
    """
    if line.startswith("carme: "):
        return line.removeprefix("carme: ")
    for start, meaning in (
        ("I: Resolving dependencies of required", "fetching a minimal Debian"),
        ("I: Installing core packages", "installing a minimal Debian"),
        ("INFO:    Extracting local image", "unpacking the parent image"),
        ("INFO:    Creating SIF file", "packing"),
    ):
        if line.startswith(start):
            return meaning
    return None


def ensure(cache: Path, names: Iterable[str], say: Callable[[str], None]) -> dict[str, Path]:
    """Return the SIF file of each image, built if it is not there.

    Parameters
    ----------
    cache
        The cache's folder.
    names
        Of `IMAGES`.
    say
        Takes progress, one line at a time.

    Returns
    -------
    dict of str to Path
        By name; the files are readable by everybody.

    Raises
    ------
    BuildError
        When something cannot be fetched or a build fails; with the end of its log.
    """
    return {name: _image(name, cache, say) for name in names}


def _image(name: str, cache: Path, say: Callable[[str], None]) -> Path:
    target = cache / "images" / f"{name}-{content_key(name)}.sif"
    with store.publish(target) as place:
        if place is not None:
            _build(name, place, cache, say)
    return target


def pip_settings(listing: str) -> dict[str, str]:
    """Return a machine's settings of pip as environment variables for a build.

    Apptainer hands in the variables that begin with ``APPTAINERENV_``, without that beginning; they do not
    stay in the image.

    Parameters
    ----------
    listing
        What ``pip config list`` prints: ``global.timeout='60'``, or ``:env:.timeout='60'`` for a variable.
    """
    found = {}
    for line in listing.splitlines():
        name, _, value = line.partition("=")
        scope, _, option = name.rpartition(".")
        # A local folder does not exist in there.
        words = [word for word in value.strip("'\"").split() if not word.startswith(("/", "file:"))]
        if words and scope in {"global", "install", ":env:"}:
            found[f"APPTAINERENV_PIP_{option.upper().replace('-', '_')}"] = " ".join(words)
    return found


def _pip_settings() -> dict[str, str]:
    words = [sys.executable, "-m", "pip", "config", "list"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    settings = pip_settings(done.stdout)
    if BUNDLE.exists():
        settings["APPTAINERENV_PIP_CERT"] = f"/mnt/{BUNDLE.name}"
    return settings


def _build(name: str, place: Path, cache: Path, say: Callable[[str], None]) -> None:
    if os.geteuid() != 0:
        raise BuildError(
            f"Building {name}.sif needs root: it makes devices and mounts in a namespace of its own."
        )
    image = IMAGES[name]
    if image.parent:
        arguments = {"base": str(_image(image.parent, cache, say))}
    else:
        arguments = {
            "mirror": apptainer.mirror(say),
            "security_mirror": apptainer.mirror(say, security=True),
        }
    if image.code_server:
        arguments["code_server"] = str(codeserver.ensure(cache, say))
    tree = apptainer.ensure(cache, say)
    work = place.parent
    for folder in ("scratch", "tmp", "apptainer", "extensions"):
        (work / folder).mkdir()
    if image.code_server:
        for vsix in extensions():
            shutil.copy(vsix, work / "extensions")
        arguments["code_server_extensions"] = str(work / "extensions")
    say(f"building {name}.sif (a few minutes, once)")
    words: list[str | Path] = ["unshare", "--mount", "--propagation", "private"]
    words += [
        "sh",
        "-euc",
        _NAMESPACE,
        "sh",
        work / "scratch",
        apptainer.command(tree),
        "build",
        "--fakeroot",
    ]
    words += ["--mksquashfs-args", "-comp zstd -Xcompression-level 1"]
    if BUNDLE.exists():
        # Certificates a site added, for its mirrors. Not over the image's own folder of them: the package
        # ca-certificates may be upgraded during the build and writes there.
        words += ["--bind", f"{BUNDLE.parent}:/mnt:ro"]
    for key, value in arguments.items():
        words += ["--build-arg", f"{key}={value}"]
    log = cache / "logs" / f"{place.name}.log"
    started = time.monotonic()
    logged(
        [*words, str(place), image.definition],
        f"Building {name}.sif",
        log=log,
        seconds=BUILD_SECONDS,
        # What Apptainer keeps meanwhile goes where the result goes, not to a /tmp that may be small.
        env={
            **os.environ,
            **_pip_settings(),
            "APPTAINER_TMPDIR": str(work / "tmp"),
            "APPTAINER_CACHEDIR": str(work / "apptainer"),
        },
        cwd=DEFINITIONS,
        line=lambda text: say(f"building {name}.sif: {doing}") if (doing := step(text)) else None,
    )
    place.chmod(0o644)
    say(f"building {name}.sif: done, {place.stat().st_size >> 20} MiB, {time.monotonic() - started:.0f} s")


def main(say: Callable[[str], None]) -> str:
    """Make all images; return a line for each with its name and file."""
    made = ensure(store.root(), IMAGES, say)
    return "\n".join(f"{name} {path}" for name, path in made.items())


if __name__ == "__main__":
    raise SystemExit(as_command(main))
