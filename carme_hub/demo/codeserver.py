"""Code-Server, compiled once and kept in the cache: the npm package brings sources, no binaries.

What comes out is a folder to be copied into an image as /opt/code-server: the package with its modules, and
the ``node`` it was compiled for.
"""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING

from carme_hub.demo import cache as store
from carme_hub.demo import nodejs
from carme_hub.demo.run import BuildError, as_command, logged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

VERSION = "4.139.1"
RECIPE = "3"
"""To be counted up when this module makes something else of the same version."""

BUILD_SECONDS = 2400

_SYSTEM = "linux-" + {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), "")

_COMMAND = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../lib/node" "$here/../lib/node_modules/code-server" "$@"
"""


def content_key() -> str:
    """Return a key of everything that decides what `ensure` makes."""
    return store.key(VERSION, RECIPE, nodejs.NODE, _COMMAND)


def ensure(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the folder with Code-Server (``bin/code-server``, ``lib/``), built if it is not there.

    Raises
    ------
    BuildError
        When a registry cannot be reached or the compiler fails.
    """
    target = cache / f"code-server-{VERSION}-{content_key()}"
    with store.publish(target) as place:
        if place is not None:
            _build(place, nodejs.ensure(cache, say), cache, say)
    return target


def _build(place: Path, node: nodejs.Node, cache: Path, say: Callable[[str], None]) -> None:
    say(f"code-server: fetching and compiling {VERSION} (about 4 minutes, once)")
    log = cache / "logs" / f"code-server-{VERSION}.log"
    work = place.parent / "work"
    work.mkdir()
    (work / "package.json").write_text('{"private": true}\n')
    words = [str(node.npm), "install", "--omit=dev", "--foreground-scripts", f"code-server@{VERSION}"]
    env = node.environment(cache / "npm")
    logged(words, "Compiling Code-Server", log=log, seconds=BUILD_SECONDS, env=env, cwd=work)
    (place / "bin").mkdir(parents=True)
    (place / "lib").mkdir()
    (work / "node_modules").rename(place / "lib" / "node_modules")
    _strip(place / "lib" / "node_modules")
    shutil.copy2(node.node, place / "lib" / "node")
    command = place / "bin" / "code-server"
    command.write_text(_COMMAND)
    command.chmod(0o755)
    say("code-server: trying it")
    # It writes a configuration into the home on first sight; not into the one of whoever builds.
    env["HOME"] = str(work)
    logged([command, "--version"], "Starting Code-Server", log=log, seconds=60, env=env)
    if not (place / "lib/node_modules/code-server/lib/vscode/node_modules").is_dir():
        raise BuildError(f"Code-Server was compiled without VS Code's own modules. Log: {log}")


def _strip(modules: Path) -> None:
    """Remove what a session has no use for: a third of the size.

    That is what only the compiler needed, binaries for other systems, and the assistants that would send a
    person's files to a service outside. Links to nothing go too: copying into an image follows links and
    stops at one that leads nowhere.
    """
    code = modules / "code-server" / "lib" / "vscode"
    useless = [code / "extensions" / "copilot", code / "node_modules" / "@microsoft" / "mxc-sdk"]
    useless += (code / "node_modules" / "@github").glob("copilot-sdk-*")
    useless += modules.rglob("build/Release/obj.target")
    for pattern in ("prebuilds/*-*", "ripgrep-universal/bin/*-*"):
        useless += (folder for folder in modules.rglob(pattern) if not folder.name.startswith(_SYSTEM))
    for folder in useless:
        shutil.rmtree(folder, ignore_errors=True)
    for path in modules.rglob("*"):
        if path.suffix == ".map" or (path.is_symlink() and not path.exists()):
            path.unlink()


if __name__ == "__main__":
    raise SystemExit(as_command(lambda say: str(ensure(store.root(), say))))
