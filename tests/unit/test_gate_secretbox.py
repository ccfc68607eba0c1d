"""Secrets at rest."""

import base64
import os
import stat
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from carme_hub.authenticator.secretbox import (
    KEY_VARIABLE,
    SecretBox,
    SecretKeyError,
    SecretUnreadableError,
    fresh_key,
    new_key_file,
)

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([os.urandom(32)])


def test_what_is_sealed_opens_for_its_owner_and_does_not_show(box):
    sealed = box.seal(SECRET, "device", "alice", "1")
    assert SECRET not in sealed
    assert box.open(sealed, "device", "alice", "1") == SECRET
    assert sealed != box.seal(SECRET, "device", "alice", "1")


@pytest.mark.parametrize(
    "owner",
    [
        ("device", "mallory", "1"),
        ("device", "alice", "2"),
        ("enrolment", "alice", "1"),
        ("device", "alice1", ""),
    ],
)
def test_a_row_moved_to_another_owner_does_not_open(box, owner):
    with pytest.raises(SecretUnreadableError):
        box.open(box.seal(SECRET, "device", "alice", "1"), *owner)


def test_a_changed_or_foreign_one_does_not_open(box):
    key_id, body = box.seal(SECRET, "alice").split(".")
    raw = bytearray(base64.b64decode(body))
    raw[-1] ^= 1
    for spoilt in (
        f"{key_id}.{base64.b64encode(raw).decode()}",
        f"{key_id}.",
        f"{key_id}.AAAA",
        f"00.{body}",
        "",
    ):
        with pytest.raises(SecretUnreadableError):
            box.open(spoilt, "alice")


def test_a_new_key_in_front_still_opens_what_the_old_one_sealed():
    old, new = os.urandom(32), os.urandom(32)
    before = SecretBox([old]).seal(SECRET, "alice")
    both = SecretBox([new, old])
    assert both.open(before, "alice") == SECRET
    after = both.seal(SECRET, "alice")
    assert SecretBox([new]).open(after, "alice") == SECRET
    with pytest.raises(SecretUnreadableError):
        SecretBox([new]).open(before, "alice")


def test_a_new_key_file_is_closed_and_never_overwritten(tmp_path):
    path = tmp_path / "carme.key"
    new_key_file(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert len(base64.b64decode(text)) == 32
    with pytest.raises(SecretKeyError, match="left as it is"):
        new_key_file(path)
    assert path.read_text() == text
    box = SecretBox.load(str(path))
    assert box.open(box.seal(SECRET, "a"), "a") == SECRET


@pytest.mark.parametrize("mode", [0o604, 0o644, 0o620])
def test_an_open_key_file_is_refused_with_the_remedy(tmp_path, mode):
    path = tmp_path / "carme.key"
    new_key_file(path)
    path.chmod(mode)
    with pytest.raises(SecretKeyError, match=f"chmod 600 {path}"):
        SecretBox.load(str(path))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_key_file_of_somebody_else_is_refused(tmp_path):
    path = tmp_path / "carme.key"
    new_key_file(path)
    os.chown(path, 12345, 0)
    path.chmod(0o640)
    SecretBox.load(str(path))  # root, for a hub that is an ordinary account
    tmp_path.chmod(0o755)
    path = path.resolve()
    for folder in path.parents[1:3]:
        folder.chmod(folder.stat().st_mode | 0o011)
    os.seteuid(1234)
    try:
        with pytest.raises(SecretKeyError, match="belongs to somebody else"):
            SecretBox.load(str(path))
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("text", ["", "not base64!", base64.b64encode(b"short").decode(), "ä"])
def test_a_file_without_a_key_is_refused(tmp_path, text):
    path = tmp_path / "carme.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(SecretKeyError, match=str(path)):
        SecretBox.load(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(SecretKeyError, match="carme new-key"):
        SecretBox.load(str(tmp_path / "none"))


def test_the_environment_comes_first(tmp_path, monkeypatch):
    monkeypatch.setenv(KEY_VARIABLE, base64.b64encode(os.urandom(32)).decode())
    box = SecretBox.load(str(tmp_path / "none"))
    assert box.open(box.seal(SECRET, "a"), "a") == SECRET


# ---- a file that changes while the hub runs


@pytest.fixture
def path(tmp_path):
    new_key_file(tmp_path / "carme.key")
    return tmp_path / "carme.key"


def rewrite(path, *keys, mode=0o600):
    """Put a file in the place of another, as the command does it."""
    new = path.with_name("new")
    new.write_text("".join(f"{key}\n" for key in keys))
    new.chmod(mode)
    new.rename(path)


def test_a_key_put_in_front_is_used_from_then_on(path):
    box = SecretBox.load(str(path))
    before = box.seal(SECRET, "a")
    old = path.read_text().strip()
    new = fresh_key()
    rewrite(path, new, old)
    assert not box.is_newest(before)
    after = box.seal(SECRET, "a")
    assert box.is_newest(after)
    assert SecretBox([base64.b64decode(new)]).open(after, "a") == SECRET
    assert box.open(before, "a") == SECRET
    rewrite(path, new)
    with pytest.raises(SecretUnreadableError, match="not in the key file"):
        box.open(before, "a")


def test_a_file_that_is_written_in_place_is_noticed_too(path):
    box = SecretBox.load(str(path))
    new = fresh_key()
    path.write_text(new)
    assert SecretBox([base64.b64decode(new)]).open(box.seal(SECRET, "a"), "a") == SECRET


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.unlink(),
        lambda path: path.write_text(""),
        lambda path: path.write_text(path.read_text() + "half a k"),
        lambda path: path.chmod(0o644),
        lambda path: rewrite(path, fresh_key(), mode=0o620),
    ],
    ids=["gone", "empty", "half", "open", "replaced"],
)
def test_with_a_file_that_is_spoilt_logins_go_on_and_nothing_new_is_sealed(path, caplog, spoil):
    text = path.read_text()
    box = SecretBox.load(str(path))
    before = box.seal(SECRET, "a")
    spoil(path)
    for _ in range(3):
        assert box.open(before, "a") == SECRET
        with pytest.raises(SecretKeyError, match=str(path)):
            box.seal(SECRET, "a")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert str(path) in caplog.text
    assert text.strip() not in caplog.text
    rewrite(path, text.strip())
    assert box.open(box.seal(SECRET, "a"), "a") == SECRET


def test_threads_go_on_while_keys_come_and_go(path):
    box = SecretBox.load(str(path))
    first = path.read_text().strip()
    kept = box.seal(SECRET, "kept")
    stopping = threading.Event()

    def work(name):
        count = 0
        while not stopping.is_set():
            assert box.open(box.seal(SECRET, name), name) == SECRET
            assert box.open(kept, "kept") == SECRET
            count += 1
        return count

    with ThreadPoolExecutor(4) as threads:
        working = [threads.submit(work, name) for name in "abcd"]
        keys = [first]
        try:
            for _ in range(50):
                keys.insert(0, fresh_key())
                rewrite(path, *keys)
        finally:
            stopping.set()
        assert all(one.result() for one in working)
    assert SecretBox([base64.b64decode(keys[0])]).open(box.seal(SECRET, "a"), "a") == SECRET
