"""`carme demo`: start the demo site, look at it, enter it, end it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from carme_hub.demo import layout as places
from carme_hub.demo import outside
from carme_hub.demo.layout import Layout

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable


def register(commands: Any) -> None:
    """Add `carme demo …` to the command line."""
    demo = commands.add_parser("demo", help="the demo site: a whole cluster on this machine")
    actions = demo.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=text)
        action.set_defaults(run=run)
        return action

    add("up", start, "install and build what is missing, start the site, wait until it answers")
    needed = add("provide", get_ready, "only install and build what is missing")
    needed.add_argument("--tests", action="store_true", help="what the tests need too")
    add("stop", stop, "end every process and mount of the site")
    status = add("status", show, "whether it runs, where, and who can log in")
    status.add_argument("--json", action="store_true", help="for programs")
    code = add("code", show_code, "a person's current one-time code, as their telephone would show it")
    code.add_argument("username")
    enter = add("exec", execute, "run a command inside the site")
    enter.add_argument("--node", help="on this compute node instead of the head node")
    enter.add_argument("--user", help="as this person instead of root")
    enter.add_argument("words", nargs="+", metavar="WORD", help="the command (put -- before it)")


def say(text: str) -> None:
    """Print one line of progress at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _site() -> Layout:
    if os.geteuid() != 0:
        raise SystemExit(
            "carme demo: namespaces, mounts and the site's secrets are root's: put sudo before it."
        )
    return Layout(places.checkout())


def _provide(*, tests: bool) -> dict[str, Any]:
    from carme_hub.demo import provide, run  # noqa: PLC0415  other commands need none of what they import

    try:
        return provide.everything(say, tests=tests)
    except run.BuildError as error:
        raise SystemExit(f"carme demo: {error}") from None


def start(_args: argparse.Namespace) -> int:
    """Install, build and start what is missing; print where the site is and how to use it."""
    layout = _site()
    outside.check_place(layout)
    with outside.alone(layout, say):
        if outside.site_process(layout) is None:
            outside.stop_site(layout)  # what a machine that went down left behind
            outside.start_site(layout, _provide(tests=False), say)
        elif not outside.wait_until_ready(layout):
            raise SystemExit(
                f"carme demo: the site runs, but its hub does not answer; see {layout.logs}. "
                "`make demo-stop` ends it, and all sessions with it."
            )
    _print_welcome(outside.read_status(layout))
    return 0


def get_ready(args: argparse.Namespace) -> int:
    """Install and build what is missing, and start nothing."""
    _site()
    _provide(tests=args.tests)
    return 0


def stop(_args: argparse.Namespace) -> int:
    """End the site."""
    layout = _site()
    with outside.alone(layout, say):
        ran = outside.stop_site(layout)
    say("the demo site has ended" if ran else "the demo site is not running")
    return 0


def show(args: argparse.Namespace) -> int:
    """Print the status; the exit code is 0 when the site is ready, else 1."""
    status = outside.read_status(_site())
    if args.json:
        say(json.dumps(status, indent=2))
    elif status["ready"]:
        _print_welcome(status)
    else:
        say("the demo site is not running; start it with `make demo`")
    return 0 if status["ready"] else 1


def _print_welcome(status: dict[str, Any]) -> None:
    say(f"\n  carme-hub is ready:  {status['hub_url']}\n")
    say(f"  {'name':8} {'password':14} {'groups':26} a code (valid for half a minute)")
    for account in status["accounts"]:
        name, groups = account["username"], ", ".join(account["groups"])
        say(f"  {name:8} {account['password']:14} {groups:26} .venv/bin/carme demo code {name}")
    say("\n  People and secrets as JSON:  .venv/bin/carme demo status --json")
    say("  Slurm's commands:            .venv/bin/carme demo exec -- sinfo")
    say("  Stop:                        make demo-stop\n")


def show_code(args: argparse.Namespace) -> int:
    """Print the code that this person's telephone shows now."""
    import pyotp  # noqa: PLC0415

    for account in outside.read_status(_site())["accounts"]:
        if account["username"] == args.username:
            say(pyotp.TOTP(account["totp_secret"]).now())
            return 0
    raise SystemExit(
        f"carme demo: nobody called {args.username!r} on a running demo site; see `carme demo status`."
    )


def execute(args: argparse.Namespace) -> int:
    """Run a command inside the site and return its exit code."""
    words = outside.enter_words(_site(), args.node, args.user)
    environment = {**os.environ, "PATH": outside.PATH}
    return subprocess.run([*words, *args.words], env=environment, check=False).returncode
