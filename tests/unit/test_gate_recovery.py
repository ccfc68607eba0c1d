"""Rule 7: recovery codes, kept as hashes, each used once."""

import os
import re
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest

from carme_hub.authenticator import recovery
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.store import Store


@pytest.fixture
def store(tmp_path):
    opened = Store(f"sqlite:///{tmp_path}/carme.sqlite", SecretBox([os.urandom(32)]))
    for name in ("alice", "bob"):
        opened.add_totp(name, "A" * 32)
    yield opened
    opened.close()


def test_rule_7_ten_codes_of_more_than_64_bits():
    codes = recovery.new_codes()
    assert len(set(codes)) == 10
    for code in codes:
        assert re.fullmatch(r"([0-9]{5}-){3}[0-9]{5}", code)
    assert not set(codes) & set(recovery.new_codes())


def test_a_code_counts_however_it_is_typed():
    code = recovery.new_codes()[0]
    plain = code.replace("-", "")
    for typed in (code, plain, f" {plain} ", code.replace("-", " ")):
        assert recovery.normal(typed) == plain


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "123456",
        "1" * 19,
        "1" * 21,
        "1" * 19 + "a",
        "1" * 19 + "\uff11",
        "1" * 19 + "\u0661",
        "-" * 20,
        "1" * 20 + "\0",
    ],
)
def test_what_is_no_recovery_code(typed):
    assert recovery.normal(typed) is None


def test_rule_7_each_works_once_and_says_how_many_are_left(store):
    codes = store.new_recovery_codes("alice")
    assert store.use_code("bob", codes[0], 0, 1) is None
    used = store.use_code("alice", codes[0].replace("-", " "), 0, 1)
    assert (used.kind, used.detail) == ("recovery", "9 left")
    assert store.use_code("alice", codes[0], 0, 1) is None
    assert store.use_code("alice", codes[9], 0, 1).detail == "8 left"


def test_rule_7_in_parallel_one_wins(store):
    code = store.new_recovery_codes("alice")[0]
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda _: store.use_code("alice", code, 0, 1), range(8)))
    assert sum(result is not None for result in results) == 1


def test_new_codes_end_the_old_ones(store):
    old = store.new_recovery_codes("alice")
    store.new_recovery_codes("alice")
    assert store.use_code("alice", old[0], 0, 1) is None
    assert store.account("alice").recovery_left == 10


def test_rule_7_they_are_kept_as_salted_hashes(store, tmp_path):
    codes = store.new_recovery_codes("alice")
    other = store.new_recovery_codes("bob")
    with sqlite3.connect(tmp_path / "carme.sqlite") as connection:
        salts = {row[0] for row in connection.execute("SELECT DISTINCT salt FROM carme_recovery")}
    connection.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert len(salts) == 2
    for code in [*codes, *other]:
        assert code.encode() not in content
        assert code.replace("-", "").encode() not in content


def test_a_replaced_device_takes_its_recovery_codes_along(store):
    old = store.new_recovery_codes("alice")
    token = store.enrolments.new_token("alice", 1)
    ticket = store.enrolments.begin("alice", token, "B" * 32, "Phone")
    assert store.enrolments.finish(store.enrolments.attempt(ticket), ticket, step=1)
    assert store.use_code("alice", old[0], 0, 1) is None


def test_a_second_device_leaves_them(store):
    codes = store.new_recovery_codes("alice")
    ticket = store.enrolments.begin_second("alice", "B" * 32, "Tablet")
    assert store.enrolments.finish(store.enrolments.attempt(ticket), ticket, step=1)
    assert {one.name for one in store.devices("alice")} == {"Authenticator app", "Tablet"}
    assert store.use_code("alice", codes[0], 0, 1) is not None
