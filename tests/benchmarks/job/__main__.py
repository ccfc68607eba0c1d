"""`make bench`: what sessions cost Slurm, the hub and people, beside batchspawner and jupyterhub_moss.

Starts a cluster of its own from the demo site's parts, runs one hub after the other on it, prints one table,
and ends everything. The exit code is 1 when carme-hub missed what is wanted, 2 when nothing could be shown.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from importlib import metadata
from pathlib import Path

from carme_hub.demo import cache, outside, provide, run, slurm
from carme_hub.demo.layout import checkout
from tests.benchmarks.figures import put
from tests.benchmarks.job import site
from tests.benchmarks.job.figures import Sample, Samples, breakdown, table, verdicts
from tests.benchmarks.job.plan import FEW, PAGES, Plan
from tests.benchmarks.job.streams import IDLE, STARTERS
from tests.benchmarks.job.systems import SYSTEMS
from tests.benchmarks.machine import TOP, description, said

MOSS = "10.1.0"
DOCUMENT = TOP / "docs" / "benchmarks.md"
TARGET = "bench"
HEADING = """

## Sessions

`make bench` measures it; `make bench BENCH=--write` puts the result here.

"""


class BenchError(Exception):
    """There is nothing to show; the sentence says why."""


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=2, help="default: 2")
    parser.add_argument(
        "--only", type=numbers, default=[], metavar="1,3", help="figures, 1 to 7; default: all"
    )
    parser.add_argument(
        "--sessions", type=numbers, default=[0, 10, 100, 500], help="idle sessions; default: 0,10,100,500"
    )
    parser.add_argument(
        "--minutes", type=float, default=0.5, help="how long RPCs are counted each time; default: 0.5"
    )
    parser.add_argument("--write", action="store_true", help=f"put the result into {DOCUMENT.name}")
    asked = parser.parse_args()
    if asked.rounds < 1 or asked.minutes <= 0 or not set(asked.only) <= set(range(1, 8)):
        parser.error("at least one round, a time above 0, and figures from 1 to 7")
    if not asked.sessions or not 0 <= min(asked.sessions) <= max(asked.sessions) <= len(site.IDLE_PEOPLE):
        parser.error(f"idle sessions: from 0 to {len(site.IDLE_PEOPLE)}")
    asked.sessions = sorted(set(asked.sessions))
    return asked


def peers() -> Path:
    """
    Return the Python of a virtual environment with the other two packages, and the hub's packages as here.

    One of its own, because JupyterHub imports every spawner that is installed, and ours takes batchspawner's
    handler out of the hub's API (it lets any user become the hub's user).
    """
    wanted = [f"{name}=={metadata.version(name)}" for name in ("jupyterhub", "batchspawner")]
    wanted.append(f"jupyterhub_moss=={MOSS}")
    target = cache.root() / f"bench-peers-{cache.key(sys.version, *wanted)}"
    with cache.publish(target) as new:
        if new is not None:
            say("installing batchspawner and jupyterhub_moss into an environment of their own")
            log = cache.root() / "logs" / "bench-peers.log"
            log.parent.mkdir(exist_ok=True)
            words = [sys.executable, "-m", "venv", new]
            run.logged(words, "Making an environment for the other packages", log=log, seconds=120)
            same = new.with_name("constraints.txt")  # the same versions as here, as far as both have them
            same.write_text("".join(f"{dist.name}=={dist.version}\n" for dist in metadata.distributions()))
            pip = [new / "bin" / "python", "-m", "pip", "install", "--quiet", f"--constraint={same}"]
            run.logged([*pip, *wanted], "Installing the other packages", log=log, seconds=600)
    return target / "bin" / "python"


def measure(plan: Plan) -> list[Sample]:
    """
    Run the inside in namespaces of its own, pass on what it says, and return what it found.

    Raises
    ------
    BenchError
        When it did not come to its end.
    """
    provided = provide.everything(say, tests=True)
    layout = site.BenchLayout(checkout())
    outside.check_place(layout)
    found = layout.state / "found.jsonl"
    settings = provided | {"listeners": {}, "addresses": {}}
    told = {"settings": settings, "plan": asdict(plan), "peers": str(peers()), "found": str(found)}
    layout.state.mkdir(parents=True, exist_ok=True)
    with outside.alone(layout, say):
        site.prepare(layout)
        process = subprocess.Popen(
            [
                *("unshare", *outside.NAMESPACES, "--fork", "--kill-child", "tini", "--"),
                *(sys.executable, "-m", "tests.benchmarks.job.inside", json.dumps(told)),
            ],
            cwd=TOP,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            code = process.wait()
        finally:
            process.kill()  # its child, the first process of the namespaces, is killed with it
            process.wait()
            slurm.remove_cgroups(layout)
    if code:
        raise BenchError(f"The measurement did not come to its end (exit code {code}); see {layout.logs}.")
    return [Sample(**json.loads(line)) for line in found.read_text().splitlines()]


def explanation(plan: Plan) -> str:
    """Say what the figures mean."""
    return f"""\
Rounds: {plan.rounds} (one for less than {FEW} idle sessions); shown are the median of the rounds and, in
brackets, their range. The order of the three hubs changes from round to round. One cluster for all:
slurmctld, slurmdbd, three slurmd, and 2,000 more nodes that are switched off (State=CLOUD), so that sinfo
shows 2,003. All hubs are root, use SQLite, and let everybody in (DummyAuthenticator: logins are another
benchmark). batchspawner and jupyterhub_moss have the defaults of their packages and what their READMEs ask
for; both run on the same JupyterHub as carme-hub.

- 1 and 2: RPCs that slurmctld counts (`sdiag`) in {60 * plan.minutes:.0f} s, without what the cluster says
  to itself. The idle sessions are real jobs that sleep; on each node one server answers for all of them.
  Each hub finds them in its database, as after a restart, and polls them from then on: batchspawner and
  jupyterhub_moss every 30 s (`Spawner.poll_interval`) with one squeue each. A longer interval lowers their
  figure in proportion, and the end of a session is noticed later in proportion; `poll_jitter` spreads the
  same number. For 2, 100 people pressed Start just before; `startup_poll_interval` is 0.5 s.
- 3 and 4: from the click until the session's own page answers, through the proxy, along all redirects and the
  waiting page, as a browser does it. The server is a small stand-in in an Apptainer image; "plain srun"
  and "plain sbatch" start the same server in the same image with these commands until it answers. Slurm gives
  srun its nodes at once; a batch job, which every hub's sessions are, waits until the controller looks at its
  queue the next time, up to a second later (`batch_sched_delay=0` here).
- 5: 50 people ask for the page, each {PAGES} times with a second between. batchspawner has no page.
- 6: processor time of the hub's process and of the commands it runs, and its memory: what the most sessions
  need more than the fewest, by 100.
- 7: processor time of hub and service with dashboards open (one event stream each, through the proxy), while
  {IDLE} sessions run and {STARTERS} people start and stop sessions all the time. With 0 it is what that alone
  costs."""


def programs() -> list[str]:
    slurm_version = said("slurmctld", "-V").removeprefix("slurm-wlm ")
    return [f"jupyterhub_moss {MOSS}", f"Slurm {slurm_version}"]


def main() -> int:
    asked = arguments()
    if os.geteuid() != 0:
        sys.stderr.write("make bench: namespaces and mounts are root's: put sudo before it.\n")
        return 2
    plan = Plan(asked.rounds, asked.only, asked.sessions, asked.minutes)
    say(f"This takes about {plan.seconds(len(SYSTEMS)) / 60:.0f} min, once everything is built.")
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    began = time.monotonic()
    try:
        found = Samples(measure(plan))
    except (BenchError, run.BuildError) as error:
        sys.stderr.write(f"make bench: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing is left running.\n")
        return 130
    judged = verdicts(found)
    packages = ("jupyterhub", "batchspawner", "tornado")
    parts = [
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {description(packages, *programs())}.",
        explanation(plan),
        table(found),
        "\n".join(map(str, judged)),
    ]
    if kinds := breakdown(found):
        parts.append(f"RPCs of the last round with the most idle sessions: {kinds}.")
    parts.append(
        f"Others used up to {max(s.others for s in found.all):.0%} of the processors during a measurement."
    )
    text = "\n\n".join(part for part in parts if part)
    say(f"\n{text}\n\nIt took {(time.monotonic() - began) / 60:.1f} min.")
    if asked.write:
        document = DOCUMENT.read_text() if DOCUMENT.exists() else "# Benchmarks\n"
        if f"<!-- make {TARGET}: begin -->" not in document:
            document = document.rstrip() + HEADING
        DOCUMENT.write_text(put(document, text, TARGET))
        say(f"written to {DOCUMENT}")
    return 0 if all(verdict.reached for verdict in judged) else 1


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        sys.exit(main())
