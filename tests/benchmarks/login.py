"""Fifty logins at once, the directory being slow: does the hub stand still?

`make bench-login` runs this. A real slapd stands behind a relay that passes on each of its answers 300 ms
later. A real hub with its proxy runs with CarmeAuthenticator, then with ldapauthenticator, then with an
authenticator that only sleeps; a fresh one each time, in turns. All 50 people have the login page open and
send it at one instant, twice: the hub has never seen them the first time. A process of its own asks
/hub/health every 50 ms. Everything goes through the proxy, as browsers do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime as dt
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import FrameType

import pyotp

from tests.benchmarks.figures import IDLE, Run, put, table, verdicts
from tests.benchmarks.load import QUIET_SECONDS, Codes, log_everybody_in
from tests.benchmarks.machine import TOP, Use, description, others, slapd
from tests.benchmarks.world import (
    ALONE,
    CLEAR,
    DELAY,
    OURS,
    PATIENCE,
    PEOPLE,
    STARTTLS,
    THEIRS,
    BenchmarkError,
    Directory,
    Helper,
    configuration,
    directory,
    helper,
    hub,
)
from tests.integration.gate_world import Hub

INTERVAL = 0.05  # seconds between two questions about health
IDLE_PATIENCE = 60  # seconds to wait for an idle machine
FIRST, AGAIN = "nobody has ever logged in at this hub", "everybody has logged in before"
DOCUMENT = TOP / "docs" / "benchmarks.md"
HEADING = """# Benchmarks

## Fifty logins at once

`make bench-login` measures it; `make bench-login BENCH=--write` puts the result here.
"""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def everybody_in(system: str, running: Hub, place: Directory, relay: Helper, codes: Codes) -> Run:
    """Let everybody in at once."""
    with helper("health", f"{running.url}/hub/health", str(INTERVAL)) as asking:
        asking.first_line()
        before, waits = Use.now(), relay.ask()["waits"]
        start, logins = asyncio.run(log_everybody_in(running.url, place.people, codes, PATIENCE))
        after, waits = Use.now(), relay.ask()["waits"] - waits
        found = asking.end()
    refuse_failures(system, running, [status for _, status in logins], found["asked"])
    if found["late"] > INTERVAL:
        say(f"  a question about health was sent {found['late'] * 1000:.0f} ms late: it counts as the hub's")
    end = start + max(seconds for seconds, _ in logins)
    return Run(
        logins=[seconds for seconds, _ in logins],
        health=[seconds for due, seconds, _ in found["asked"] if start <= due <= end],
        quiet=[seconds for due, seconds, _ in found["asked"] if start - QUIET_SECONDS <= due < start],
        waits=waits / len(place.people),
        others=after.others_since(before),
    )


def refuse_failures(
    system: str, running: Hub, statuses: Sequence[int], asked: Sequence[Sequence[float]]
) -> None:
    """
    Make sure that what was measured is logins: a refusal is fast.

    Raises
    ------
    BenchmarkError
        Somebody did not come in, or the hub once said that it is not well.
    """
    wrong = Counter(status for status in statuses if status != 302)
    unwell = Counter(int(status) for _, _, status in asked if status != 200)
    if wrong or unwell:
        said = [line for line in running.log.splitlines() if re.match(r"\[[WEC] ", line)]
        raise BenchmarkError(
            f"{system}: {wrong.total()} of {len(statuses)} logins failed (statuses {dict(wrong)}), "
            f"{unwell.total()} of {len(asked)} questions about health (statuses {dict(unwell)}). "
            "Nothing is shown. The last warnings in the hub's log:\n" + "\n".join(said[-10:])
        )


def measure(system: str, way: str, folder: Path, place: Directory) -> dict[str, Run]:
    """Start a fresh hub, let everybody in twice, end it."""
    with contextlib.ExitStack() as stack:
        relay = stack.enter_context(helper("relay", str(place.socket), str(DELAY)))
        config = configuration(system, way, int(relay.first_line()), place.certificates)
        running = stack.enter_context(hub(folder, config))
        devices: dict[str, pyotp.TOTP] = {}
        if system == OURS:
            for person in place.people:
                secret = pyotp.random_base32()
                running.store.add_totp(person.username, secret)
                devices[person.username] = pyotp.TOTP(secret)
        runs = {}
        for number, case in enumerate((FIRST, AGAIN)):
            # A code works once: the second time everybody types the next one, which is accepted already.
            codes = {name: partial(code, device, number) for name, device in devices.items()}
            runs[case] = everybody_in(system, running, place, relay, codes)
        return runs


def code(device: pyotp.TOTP, later: int) -> str:
    return str(device.at(time.time(), counter_offset=later))


def wait_until_idle() -> None:
    until = time.monotonic() + IDLE_PATIENCE
    while others() > IDLE and time.monotonic() < until:
        pass


def compare(way: str, rounds: int, folder: Path, place: Directory) -> tuple[str, bool]:
    """Measure all of them in turns; the text, and whether carme-hub reached what is wanted."""
    runs: dict[str, dict[str, list[Run]]] = {
        case: {system: [] for system in (OURS, THEIRS, ALONE)} for case in (FIRST, AGAIN)
    }
    for number in range(1, rounds + 1):
        for system in (OURS, THEIRS, ALONE):
            wait_until_idle()
            say(f"{way}, round {number} of {rounds}: {system}")
            found = measure(system, way, folder / f"{way[0]}{number}{system[0]}", place)
            for case, run in found.items():
                say(
                    f"  {case}: all are in after {max(run.logins):.2f} s, slowest of {len(run.health)} "
                    f"answers of /hub/health {max(run.health):.3f} s, others used {run.others:.0%} of the "
                    "processors"
                )
                runs[case][system].append(run)
    texts, reached = [], True
    for case, by_system in runs.items():
        verdict, well = verdicts(by_system[OURS])
        reached = reached and well
        texts.append(f"**{way}, {case}**\n\n{table(by_system)}\n\n{verdict}")
    return "\n\n".join(texts), reached


def explanation(rounds: int) -> str:
    return f"""{PEOPLE} people log in at one instant; the directory's answers come {DELAY * 1000:.0f} ms late.
Rounds, each with a fresh hub: {rounds}; shown are the median and, in brackets, the range. Both packages use
StartTLS unless told otherwise. Same settings: one server, one template for the name, certificate checked,
members of one group may come in. A login's time runs from sending all forms until its answer; only carme-hub
asks for a code. /hub/health is asked every {INTERVAL * 1000:.0f} ms while the logins run; its time runs from
when the question was due. All of it goes through the proxy. "{ALONE}" has an authenticator that only sleeps,
as long as carme-hub waits for its directory: what is slow there is JupyterHub's own work for a login."""


def interrupted(_number: int, _frame: FrameType | None) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the way out is not interrupted
    raise KeyboardInterrupt


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench-login", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3, help="hubs of each kind (default: %(default)s)")
    parser.add_argument("--clear-text", action="store_true", help="measure without StartTLS, too")
    parser.add_argument("--write", action="store_true", help="put the result into docs/benchmarks.md")
    asked = parser.parse_args()
    if asked.rounds < 1:
        parser.error("--rounds: at least one")
    return asked


def main() -> int:
    asked = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    say(f"A round takes about four minutes, in most of which the hub with {THEIRS} stands still.")
    ways = [STARTTLS, CLEAR] if asked.clear_text else [STARTTLS]
    try:
        with tempfile.TemporaryDirectory(prefix="bench-login-") as name, directory(Path(name)) as place:
            compared = [compare(way, asked.rounds, Path(name), place) for way in ways]
    except BenchmarkError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    date = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    packages = ("jupyterhub", "tornado", "jupyterhub-ldapauthenticator", "ldap3")
    text = "\n\n".join(
        [
            f"{date}, {description(packages, slapd())}.",
            explanation(asked.rounds),
            *(text for text, _ in compared),
        ]
    )
    say(f"\n{text}")
    if asked.write:
        document = DOCUMENT.read_text() if DOCUMENT.exists() else HEADING
        DOCUMENT.write_text(put(document, text, "bench-login"))
        say(f"\nwritten to {DOCUMENT}")
    return 0 if all(reached for _, reached in compared) else 1


if __name__ == "__main__":
    sys.exit(main())
