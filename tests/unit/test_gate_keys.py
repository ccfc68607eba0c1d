"""`carme new-key` and `carme rotate-key`, on real files, with a hub at work and with the plug pulled."""

import argparse
import base64
import os
import random
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import sqlalchemy as sa
from traitlets.config import Config

from carme_hub.authenticator import key_command, keyfile, rotation
from carme_hub.authenticator.secretbox import KEY_VARIABLE, SecretBox, SecretKeyError, new_key_file
from carme_hub.authenticator.store import Store
from carme_hub.authenticator.tables import device, enrolment

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "keys" / "carme.key"
    file.parent.mkdir()
    new_key_file(file)
    return file


@pytest.fixture
def config(tmp_path, path):
    config = Config()
    config.CarmeAuthenticator.database_url = f"sqlite:///{tmp_path}/carme.sqlite"
    config.CarmeAuthenticator.secret_key_file = str(path)
    config.CarmeAuthenticator.audit_file = ""
    return config


@pytest.fixture
def hub(config, path):
    """What the hub holds: opened once, before anything is changed."""
    store = Store(config.CarmeAuthenticator.database_url, SecretBox.load(str(path)))
    for name in ("alice", "bob"):
        store.add_totp(name, SECRET)
    store.enrolments.begin_second("alice", SECRET, "Tablet")
    yield store
    store.close()


def carme(config, *words):
    parser = argparse.ArgumentParser()
    key_command.register(parser.add_subparsers(required=True))
    return key_command.run(parser.parse_args(words), config)


def sealed_with(hub):
    """The ids of the keys that the secrets in the database are sealed with."""
    with hub.engine.connect() as connection:
        texts = [
            text
            for table in (device, enrolment)
            for text in connection.execute(sa.select(table.c.secret)).scalars()
            if text is not None
        ]
    return {text.partition(".")[0] for text in texts}


def settle(path):
    """Let the last change of the key file be long ago."""
    os.utime(path, (time.time() - 3600,) * 2)


def test_a_new_key_and_no_second_one_over_it(tmp_path, capsys):
    assert carme(Config(), "new-key", str(tmp_path / "new")) == 0
    assert carme(Config(), "new-key", str(tmp_path / "new")) == 1
    assert "left as it is" in capsys.readouterr().err


def test_a_rotation_under_a_running_hub(config, path, hub, capsys):
    old = path.read_text().split()
    before = sealed_with(hub)
    assert carme(config, "rotate-key") == 0
    assert "3 secrets are sealed with it" in capsys.readouterr().out
    keys = path.read_text().split()
    assert keys[1:] == old
    assert sealed_with(hub).isdisjoint(before)
    # The hub's own box has the new key: it opens, and what it adds is sealed with it.
    assert [one.secret for one in hub.totp_devices("alice")] == [SECRET]
    hub.add_totp("carol", SECRET)
    assert len(sealed_with(hub)) == 1
    (entry,) = hub.audit.entries()
    assert (entry.event, entry.outcome, entry.detail) == ("key-rotated", "success", "3 secrets")
    assert entry.actor.startswith("command:")
    # A program that has the new key alone, as after --drop-old.
    box = SecretBox([base64.b64decode(keys[0])])
    with hub.engine.connect() as connection:
        row = connection.execute(sa.select(enrolment)).one()
    assert box.open(row.secret, "enrolment", "alice", row.id) == SECRET


def test_old_keys_go_when_nothing_needs_them(config, path, hub, capsys):
    assert carme(config, "rotate-key") == 0
    assert carme(config, "rotate-key", "--drop-old") == 1
    assert "may still be writing" in capsys.readouterr().err
    settle(path)
    keys = path.read_text().split()
    assert carme(config, "rotate-key", "--drop-old") == 0
    assert "1 old keys are gone" in capsys.readouterr().out
    assert path.read_text().split() == keys[:1]
    assert [one.secret for one in hub.totp_devices("bob")] == [SECRET]
    settle(path)
    assert carme(config, "rotate-key", "--drop-old") == 1
    assert "one key" in capsys.readouterr().err


def test_old_keys_stay_while_something_needs_them(config, path, hub, capsys):
    with hub.engine.begin() as connection:
        broken = device.update().where(device.c.username == "bob").values(secret=device.c.secret + "AAAA")
        connection.execute(broken)
    assert carme(config, "rotate-key") == 0
    assert "no key here opens, of bob" in capsys.readouterr().out
    settle(path)
    keys = path.read_text()
    assert carme(config, "rotate-key", "--drop-old") == 1
    assert "No key is removed. There are secrets that no key here opens, of bob" in capsys.readouterr().err
    assert path.read_text() == keys
    hub.reset("bob")
    assert carme(config, "rotate-key", "--drop-old") == 0


def test_what_was_left_over_is_sealed_before_keys_go(config, path, hub):
    with keyfile.locked(str(path)) as file:
        keyfile.add_key(file)  # and there it was interrupted
    settle(path)
    assert carme(config, "rotate-key", "--drop-old") == 0
    assert [one.secret for one in hub.totp_devices("alice")] == [SECRET]
    assert len(path.read_text().split()) == 1


def test_a_key_of_the_environment_is_not_changed(config, path, hub, monkeypatch, capsys):
    monkeypatch.setenv(KEY_VARIABLE, path.read_text().strip())
    before = sealed_with(hub)
    assert carme(config, "rotate-key") == 1
    assert KEY_VARIABLE in capsys.readouterr().err
    assert len(path.read_text().split()) == 1
    assert sealed_with(hub) == before


@pytest.mark.usefixtures("hub")
def test_without_a_database_the_key_file_stays_as_it_is(config, path, capsys):
    before = path.read_text()
    config.CarmeAuthenticator.database_url = "sqlite:////proc/nowhere"
    assert carme(config, "rotate-key") == 1
    assert capsys.readouterr().err.startswith("carme: The database")
    assert path.read_text() == before


def test_what_the_hub_writes_at_the_same_moment_is_not_lost(hub, path):
    """A new secret comes between the reading of the old one and its sealing anew."""
    token = hub.enrolments.new_token("bob", 1)
    hub.enrolments.begin("bob", token, "A" * 32, "Phone")
    tickets = []

    class Meanwhile(SecretBox):
        def open(self, sealed, *owner):
            if owner[:2] == ("enrolment", "bob") and not tickets:
                tickets.append(hub.enrolments.begin("bob", token, "B" * 32, "Phone"))
            return super().open(sealed, *owner)

    both = Meanwhile([os.urandom(32), base64.b64decode(path.read_text())])
    assert rotation.reseal(hub.engine, both) == 4  # two devices, two enrolments
    assert rotation.not_newest(hub.engine, both) == []
    after = Store(str(hub.engine.url), both)
    assert after.enrolments.attempt(tickets[0]).secret == "B" * 32
    after.close()


@pytest.mark.usefixtures("hub")
def test_two_at_once_are_one_after_the_other(config, path, capsys):
    with keyfile.locked(str(path)):
        assert carme(config, "rotate-key") == 1
    assert "cannot be locked" in capsys.readouterr().err
    assert len(path.read_text().split()) == 1
    with ThreadPoolExecutor(4) as threads:
        codes = list(threads.map(lambda _: carme(config, "rotate-key"), range(4)))
    assert len(path.read_text().split()) == 1 + codes.count(0)


def test_a_database_that_fails_half_way_is_a_sentence(config, path, hub, monkeypatch, capsys):
    def fail(*_):
        raise sa.exc.OperationalError("UPDATE", {}, Exception("disk I/O error"))

    with monkeypatch.context() as patched:
        patched.setattr(rotation, "_seal_anew", fail)
        assert carme(config, "rotate-key") == 1
    assert "Nothing is lost" in capsys.readouterr().err
    assert [one.secret for one in hub.totp_devices("alice")] == [SECRET]
    assert carme(config, "rotate-key") == 0
    assert len(path.read_text().split()) == 3
    assert len(sealed_with(hub)) == 1


# ---- the file


def test_owner_mode_and_link_stay(path, tmp_path):
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 0, 12345)
    link = tmp_path / "link"
    link.symlink_to(path)
    before = path.stat()
    with keyfile.locked(str(link)) as file:
        keyfile.add_key(file)
    after = path.stat()
    assert link.is_symlink()
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [file.name for file in path.parent.iterdir()] == ["carme.key"]


@pytest.mark.parametrize("where", ["fsync", "fchown", "fchmod"])
def test_a_file_that_cannot_be_written_is_as_it_was(path, monkeypatch, where):
    def fail(*_):
        raise OSError(28, "No space left on device")

    before = path.read_text()
    monkeypatch.setattr(os, where, fail)
    with keyfile.locked(str(path)) as file, pytest.raises(SecretKeyError, match="No space left"):
        keyfile.add_key(file)
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["carme.key"]


def test_what_an_interrupted_one_left_is_removed_and_not_taken(path):
    beside = path.with_name(".carme.key.new")
    beside.write_text("half a k")
    beside.chmod(0o644)
    with keyfile.locked(str(path)) as file:
        keyfile.add_key(file)
    assert not beside.exists()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    SecretBox.load(str(path))


# ---- with the plug pulled

# As the command does it, without the seconds that JupyterHub's import takes.
ROTATE = """
import sys
from carme_hub.authenticator import database, keyfile, key_command
from carme_hub.authenticator.secretbox import SecretBox
class Store:
    engine = database.open_engine(sys.argv[1])
    box = SecretBox.load(sys.argv[2])
print("ready", flush=True)
sys.stdin.readline()
with keyfile.locked(sys.argv[2]) as file:
    key_command._rotate(Store, file)
"""


def test_a_command_that_is_killed_anywhere_loses_nothing(config, path, hub, tmp_path):
    names = [f"u{index}" for index in range(100)]
    for name in names:
        hub.add_totp(name, SECRET)
    stopping = threading.Event()

    def work():
        count = 0
        while not stopping.is_set():
            name = names[count % len(names)]
            assert [one.secret for one in hub.totp_devices(name)] == [SECRET]
            ticket = hub.enrolments.begin_second(name, SECRET, "Tablet")
            assert hub.enrolments.attempt(ticket).secret == SECRET
            count += 1
        return count

    words = [sys.executable, "-c", ROTATE, config.CarmeAuthenticator.database_url, str(path)]
    with ThreadPoolExecutor(1) as threads:
        working = threads.submit(work)
        try:
            for _ in range(8):
                with subprocess.Popen(
                    words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
                ) as process:
                    assert process.stdout.readline() == "ready\n"
                    process.stdin.write("\n")
                    process.stdin.flush()
                    time.sleep(random.uniform(0, 0.4))  # noqa: S311 - where it is hit
                    process.kill()
        finally:
            stopping.set()
        assert working.result() > 0
    assert carme(config, "rotate-key") == 0
    settle(path)
    assert carme(config, "rotate-key", "--drop-old") == 0
    assert len(sealed_with(hub)) == 1
    for name in names:
        assert [one.secret for one in hub.totp_devices(name)] == [SECRET]
