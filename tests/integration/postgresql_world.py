"""A PostgreSQL server for tests."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

from tests.integration.gate_world import wait_for


class Server:
    """A server of its own, on a Unix socket in its own folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda found: int(found.parent.name))
        self._bin = newest[-1]
        # PostgreSQL does not run as root.
        self._as = (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--pdeathsig=INT"]
            if os.geteuid() == 0
            else []
        )
        if self._as:
            account = pwd.getpwnam("postgres")
            os.chown(folder, account.pw_uid, account.pw_gid)
        command = ["initdb", "--username=carme", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
        self._run([*command, "-D", str(folder / "data")])

    def _run(self, words: list[str]) -> None:
        subprocess.run(
            [*self._as, self._bin / words[0], *words[1:]],
            check=True,
            capture_output=True,
            timeout=120,
            cwd=self.folder,
        )

    def start(self) -> None:
        words = ["-D", str(self.folder / "data"), "-k", str(self.folder), "-c", "listen_addresses="]
        words += ["-c", "fsync=off", "-c", "max_connections=150"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*self._as, self._bin / "postgres", *words], stdout=log, stderr=log, cwd=self.folder
            )
        wait_for(self._answers, "the start of PostgreSQL")

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()
        try:
            self.sql("postgres", "SELECT 1")
        except sa.exc.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)  # "fast": breaks connections off
            self.process.wait(60)
            self.process = None

    def url(self, name: str) -> str:
        return f"postgresql+psycopg://carme@/{name}?host={self.folder}"

    def sql(self, name: str, *statements: str) -> None:
        engine = sa.create_engine(self.url(name), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with engine.connect() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)


@contextlib.contextmanager
def running_server() -> Iterator[Server]:
    """Run a server while the block does."""
    # Not below pytest's own folder, which nobody else may enter.
    folder = Path(tempfile.mkdtemp(prefix="carme-pg-"))
    try:
        running = Server(folder)
        running.start()
        yield running
        running.stop()
    finally:
        shutil.rmtree(folder)
