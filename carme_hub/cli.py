"""The `carme` command: for the admin of a site, and for the demo site."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from traitlets.config import Config

from carme_hub import __version__, site_check, site_config
from carme_hub.authenticator import key_command, user_command
from carme_hub.demo import command as demo_command

if TYPE_CHECKING:
    from collections.abc import Sequence


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    top = argparse.ArgumentParser(prog="carme", description="Look after a carme-hub site.")
    top.add_argument("--version", action="version", version=f"carme-hub {__version__}")
    top.add_argument(
        "--config",
        default=site_config.default_path(),
        help="the site's jupyterhub_config.py (default: %(default)s; also by CARME_CONFIG)",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    user_command.register(commands)
    key_command.register(commands)
    demo_command.register(commands)
    check = site_check.register(commands)
    check.set_defaults(run=_check)
    return top


def _check(args: argparse.Namespace) -> int:
    config = site_config.load(args.config)
    if args.site:
        return site_check.command(config, args.person, as_json=args.json, path=args.config)
    return site_check.configuration(config, args.config, as_json=args.json)


def main(words: Sequence[str] | None = None) -> None:
    """Run the command; the exit code is 0, 1 (it failed, and said why) or 2 (the command line is wrong).

    `carme check --site` has 3 besides, for warnings only.
    """
    args = parser().parse_args(words)
    if args.command == "new-key":
        sys.exit(key_command.run(args, Config()))
    if args.command == "rotate-key":
        sys.exit(key_command.run(args, site_config.load(args.config)))
    if args.command == "user":
        sys.exit(user_command.run(args, site_config.load(args.config)))
    sys.exit(args.run(args))
