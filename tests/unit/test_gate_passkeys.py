"""Passkeys, with an authenticator in software: what it signs is let in once, and nothing else is."""

import base64
import json
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from traitlets import TraitError
from webauthn.helpers import encode_cbor

from carme_hub.authenticator import credentials, passkeys
from carme_hub.authenticator.cbor import is_plain
from carme_hub.authenticator.challenges import OPEN_SECONDS, Challenges
from carme_hub.authenticator.passkey_pages import handlers
from carme_hub.authenticator.secretbox import SecretBox
from carme_hub.authenticator.store import Store
from carme_hub.authenticator.traits import GateTraits
from tests.passkey_device import (
    HAS_EXTENSIONS,
    HAS_KEY,
    ORIGIN,
    PRESENT,
    VERIFIED,
    Authenticator,
    bytes_of,
    number,
    text_of,
)

SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOW = 1_800_000_000.0


@pytest.fixture
def store(tmp_path):
    opened = Store(f"sqlite:///{tmp_path}/carme.sqlite", SecretBox([os.urandom(32)]))
    opened.add_totp("alice", SECRET)
    yield opened
    opened.close()


def options_for(store, now=NOW):
    return json.loads(passkeys.request_options(ORIGIN, store.passkeys.challenges.new(now)))


def begin(store, username, name="Key"):
    """Open an enrolment; returns its ticket, what is kept of it, and what the browser is told."""
    ticket = store.enrolments.begin_second(username, os.urandom(20).hex(), name)
    pending = store.enrolments.attempt(ticket)
    known = store.passkeys.of(username)
    text = passkeys.creation_options(ORIGIN, "Here", username, pending.secret, known)
    return ticket, pending, json.loads(text)


def add(store, username, authenticator, name="Key"):
    ticket, pending, options = begin(store, username, name)
    known = store.passkeys.of(username)
    made = passkeys.verify_registration(authenticator.make(options), ORIGIN, pending.secret, known)
    return made is not None and store.passkeys.add(pending, ticket, made)


@pytest.fixture
def passkey(store):
    """Alice's."""
    authenticator = Authenticator()
    assert add(store, "alice", authenticator)
    return authenticator


def use(store, text, username="alice", now=NOW, origin=ORIGIN):
    return store.use_code(username, text, now, 1, origin)


@pytest.mark.parametrize("kind", ["ES256", "EdDSA", "RS256"])
def test_a_passkey_takes_the_place_of_the_code(store, kind):
    authenticator = Authenticator(kind)
    assert add(store, "alice", authenticator, "Laptop")
    used = use(store, authenticator.answer_to(options_for(store)))
    assert (used.kind, used.detail) == ("passkey", "Laptop")
    (device,) = [one for one in store.devices("alice") if one.kind == "passkey"]
    assert (device.kind, device.name, device.last_used) == ("passkey", "Laptop", int(NOW))
    assert len(store.account("alice").devices) == 2


def test_an_answer_and_its_challenge_are_used_once(store, passkey):
    options = options_for(store)
    text = passkey.answer_to(options)
    assert use(store, text) is not None
    assert use(store, text) is None
    assert use(store, passkey.answer_to(options)) is None  # signed anew, for the same challenge
    assert use(store, passkey.answer_to(options_for(store))) is not None


def test_an_answer_is_used_once_also_where_the_passkey_does_not_count(store):
    authenticator = Authenticator(counts=False)
    assert add(store, "alice", authenticator)
    for _ in range(2):
        text = authenticator.answer_to(options_for(store))
        assert use(store, text) is not None
        assert use(store, text) is None


@pytest.mark.parametrize("counts", [True, False])
def test_of_many_uses_at_one_instant_one_wins(store, counts):
    authenticator = Authenticator(counts=counts)
    assert add(store, "alice", authenticator)
    text = authenticator.answer_to(options_for(store))
    with ThreadPoolExecutor(12) as threads:
        results = list(threads.map(lambda _: use(store, text), range(12)))
    assert sum(result is not None for result in results) == 1


def test_of_many_answers_with_one_counter_one_wins(store, passkey):
    answers = []
    for _ in range(8):
        passkey.counter = 5
        answers.append(passkey.answer_to(options_for(store)))
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda text: use(store, text), answers))
    assert sum(result is not None for result in results) == 1


def test_a_counter_that_does_not_grow_is_refused(store, passkey):
    passkey.counts = False  # says what it is told to
    for counter, is_taken in ((10, True), (10, False), (9, False), (0, False), (11, True), (2**32 - 1, True)):
        passkey.counter = counter
        assert (use(store, passkey.answer_to(options_for(store))) is not None) == is_taken


def test_a_challenge_is_open_for_some_minutes_and_only_where_it_was_made(store, passkey):
    text = passkey.answer_to(options_for(store))
    assert use(store, text, now=NOW + OPEN_SECONDS) is None
    assert use(store, text, now=NOW + OPEN_SECONDS - 1) is not None
    elsewhere = passkeys.request_options(ORIGIN, Challenges().new(NOW))
    assert use(store, passkey.answer_to(json.loads(elsewhere))) is None
    for challenge in ("", text_of(os.urandom(56)), text_of(os.urandom(64))):
        assert use(store, passkey.answer_to({"challenge": challenge})) is None


def test_only_the_owner_is_let_in(store, passkey):
    store.add_totp("mallory", SECRET)
    own = Authenticator()
    assert add(store, "mallory", own)
    assert use(store, passkey.answer_to(options_for(store)), "mallory") is None
    assert use(store, own.answer_to(options_for(store)), "alice") is None
    # His own signature under her passkey's id, and the other way round.
    assert use(store, replace_id(own.answer_to(options_for(store)), passkey.id), "alice") is None
    assert use(store, replace_id(passkey.answer_to(options_for(store)), own.id), "mallory") is None
    assert use(store, passkey.answer_to(options_for(store)), "nobody") is None


def replace_id(text, id_):
    return json.dumps({**json.loads(text), "id": text_of(id_), "rawId": text_of(id_)})


@pytest.mark.parametrize(
    "wrong",
    [
        {"origin": "https://hub.example.com"},
        {"origin": "https://hub.example.org:8443"},
        {"origin": "https://mallory.hub.example.org"},  # a session, where each has a host of its own
        {"origin": "https://hub.example.org/"},
        {"origin": "HTTPS://HUB.EXAMPLE.ORG"},
        {"origin": ""},
        {"host": "example.org"},
        {"host": "hub.example.com"},
        {"host": ""},
    ],
)
def test_another_place_is_refused(store, passkey, wrong):
    other = replace(passkey, **wrong)
    other.private = passkey.private
    assert use(store, other.answer_to(options_for(store))) is None
    _, pending, options = begin(store, "alice")
    other.id = os.urandom(16)
    assert passkeys.verify_registration(other.make(options), ORIGIN, pending.secret, []) is None
    assert use(store, passkey.answer_to(options_for(store))) is not None


@pytest.mark.parametrize(
    "wrong",
    [
        {"what": "create"},
        {"flags": VERIFIED},
        {"flags": 0},
        {"flags": PRESENT | 0x10},  # backed up, and not able to be
        {"flags": PRESENT | HAS_KEY},
        {"flags": PRESENT | HAS_EXTENSIONS, "behind": b"\xa0"},
        {"behind": b"\0"},
        {"signed": b"something else"},
        {"crossOrigin": True, "topOrigin": "https://evil.example.org"},
    ],
)
def test_an_answer_that_is_not_quite_right_is_refused(store, passkey, wrong):
    assert use(store, passkey.answer_to(options_for(store), **wrong)) is None


def test_any_byte_that_is_changed_is_noticed(store):
    authenticator = Authenticator(counts=False)
    assert add(store, "alice", authenticator)
    text = authenticator.answer_to(options_for(store))
    response = json.loads(text)["response"]
    for part in ("clientDataJSON", "authenticatorData", "signature"):
        data = bytes_of(response[part])
        for index in range(len(data)):
            changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
            mixed = json.loads(text)
            mixed["response"][part] = text_of(changed)
            assert use(store, json.dumps(mixed)) is None
    assert use(store, text) is not None


def test_without_an_address_there_are_no_passkeys(store, passkey):
    text = passkey.answer_to(options_for(store))
    assert store.use_code("alice", text, NOW, 1) is None
    nowhere = replace(passkey, origin="", host="")
    nowhere.private = passkey.private
    assert use(store, nowhere.answer_to(options_for(store)), origin="") is None
    assert use(store, text) is not None


def test_a_removed_passkey_is_refused_and_a_reset_takes_all(store, passkey):
    other = Authenticator()
    assert add(store, "alice", other, "Other key")
    names = {device.name: device.id for device in store.devices("alice")}
    assert store.remove_device("alice", names["Key"])
    assert use(store, passkey.answer_to(options_for(store))) is None
    assert use(store, other.answer_to(options_for(store))) is not None
    assert store.reset("alice") == 2
    assert use(store, other.answer_to(options_for(store))) is None
    assert store.passkeys.of("alice") == []


def test_a_passkey_belongs_to_one_account_and_is_added_once(store, passkey):
    store.add_totp("mallory", "A" * 32)
    store.add_totp("mallory", SECRET)
    assert not add(store, "alice", passkey)
    assert not add(store, "mallory", passkey)
    assert len(store.passkeys.of("alice")) == 1
    assert store.passkeys.of("mallory") == []


def test_after_a_reset_nothing_is_added(store):
    ticket, pending, options = begin(store, "alice")
    made = passkeys.verify_registration(Authenticator().make(options), ORIGIN, pending.secret, [])
    store.reset("alice")
    assert not store.passkeys.add(pending, ticket, made)
    assert store.enrolments.begin_second("alice", SECRET, "Key") is None
    assert store.devices("alice") == []


def test_an_enrolment_makes_one_passkey(store):
    ticket, pending, options = begin(store, "alice")
    made = [
        passkeys.verify_registration(Authenticator().make(options), ORIGIN, pending.secret, [])
        for _ in range(6)
    ]
    with ThreadPoolExecutor(6) as threads:
        results = list(threads.map(lambda one: store.passkeys.add(pending, ticket, one), made))
    assert sorted(results) == [False] * 5 + [True]


def test_an_enrolments_secret_is_not_shown(store):
    _, pending, options = begin(store, "alice")
    shown = json.dumps(options) + "".join(
        bytes_of(text).hex() for text in (options["challenge"], options["user"]["id"])
    )
    assert pending.secret not in shown
    assert pending.secret.encode().hex() not in shown


def test_what_the_browser_is_told(store, passkey):
    _, _, options = begin(store, "alice")
    assert options["rp"] == {"name": "Here", "id": "hub.example.org"}
    assert options["user"]["name"] == "alice"
    assert options["attestation"] == "none"
    assert options["authenticatorSelection"]["residentKey"] == "required"
    assert [bytes_of(known["id"]) for known in options["excludeCredentials"]] == [passkey.id]
    (known,) = store.passkeys.of("alice")
    assert bytes_of(options["user"]["id"]) == known.handle  # one for all passkeys of an account
    assert b"alice" not in known.handle
    asked = options_for(store)
    assert (asked["rpId"], asked["allowCredentials"]) == ("hub.example.org", [])
    assert asked["userVerification"] == "preferred"
    assert bytes_of(asked["challenge"]) != bytes_of(options_for(store)["challenge"])


def test_nothing_of_a_passkey_stands_open_in_the_database(store, tmp_path):
    assert add(store, "alice", Authenticator())
    (kept,) = store.passkeys.of("alice")
    store.close()
    content = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert kept.id_hash.encode() in content
    for part in (kept.id, kept.key, kept.handle):
        assert part not in content
        assert base64.b64encode(part) not in content


def test_challenges_that_are_over_are_forgotten():
    challenges = Challenges()
    for second in range(3 * OPEN_SECONDS):
        assert challenges.spend(challenges.new(NOW + second), NOW + second)
    assert len(challenges._spent) <= OPEN_SECONDS


# ---- registration


def registered(store, authenticator, **wrong):
    _, pending, options = begin(store, "alice")
    return passkeys.verify_registration(authenticator.make(options, **wrong), ORIGIN, pending.secret, [])


def test_extensions_of_an_authenticator_are_passed_over(store):
    assert registered(store, Authenticator(), extensions=encode_cbor({"credProtect": 2})) is not None


def test_another_enrolments_answer_is_refused(store):
    _, _, options = begin(store, "alice")
    _, pending, _ = begin(store, "alice")
    assert passkeys.verify_registration(Authenticator().make(options), ORIGIN, pending.secret, []) is None


@pytest.mark.parametrize(
    "wrong",
    [
        {"crossOrigin": True},
        {"statement": {"sig": b"x"}},
        {"key": {1: 2, 3: -7, -1: 1, -2: bytes(32), -3: bytes(32)}},  # no point of the curve
        {"key": {1: 2, 3: -7, -1: 1, -2: bytes(32)}},
        {"key": {1: 2, 3: -7, -1: 99, -2: bytes(32), -3: bytes(32)}},
        {"key": {1: 1, 3: -8, -1: 6, -2: b"short"}},
        {"key": {1: 3, 3: -257, -1: number(2**511 + 111), -2: b"\3"}},  # 512 bits
        {"key": {1: 3, 3: -257, -1: number(2**16000 + 1), -2: number(2**8000 + 1)}},
        {"key": {1: 3, 3: 1, -1: 5, -2: "text"}},
        {"key": {1: "text", 3: [], -1: {}}},
        {"cbor": encode_cbor([1, 2, 3])},
        {"cbor": encode_cbor("text")},
        {"cbor": b"\x04"},
        {"cbor": b""},
    ],
)
def test_a_registration_that_is_not_quite_right_is_refused(store, wrong):
    assert registered(store, Authenticator(), **wrong) is None


def test_ids_have_a_length(store):
    assert registered(store, Authenticator(id=b"")) is None
    assert registered(store, Authenticator(id=os.urandom(1023))) is not None
    assert registered(store, Authenticator(id=os.urandom(1024))) is None


def test_the_longest_answer_fits(store):
    authenticator = Authenticator("RS256", id=os.urandom(1023))
    assert add(store, "alice", authenticator)
    text = authenticator.answer_to(options_for(store), crossOrigin=False)
    assert len(text) <= credentials.MAX_CODE == passkeys.MAX_ASSERTION
    assert use(store, text + " " * (credentials.MAX_CODE + 1 - len(text))) is None
    assert use(store, text + " " * (credentials.MAX_CODE - len(text))) is not None


# ---- what strangers send

LAUGH = 40  # lists, each of which holds the one before twice: 2^40 items


def laughing():
    data = bytes([0x98, LAUGH + 1]) + b"\xd8\x1c\x80"
    for level in range(LAUGH):
        one = b"\xd8\x1d" + encode_cbor(level)
        data += b"\xd8\x1c\x82" + one + one
    return data


HOSTILE = {
    "shared values": laughing(),
    "deep": b"\x81" * 1200 + b"\0",
    "a long list": b"\x9b" + b"\xff" * 8,
    "a long text": b"\x7b\x7f" + b"\xff" * 7,
    "a long map": b"\xbb\0\0\0\0\xff\xff\xff\xff",
    "open": b"\x9f\x9f\x9f",
    "reserved": b"\x1c",
    "a great fraction": b"\xc4\x82\x1b\x7f" + b"\xff" * 7 + b"\1",
    "a pattern": b"\xd8\x23\x6a(a+)+(a+)+",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_cbor_is_refused_at_once(store, passkey, what):
    data = HOSTILE[what]
    began = time.monotonic()
    for behind in (data, bytes(16) + b"\0\1x" + data):
        for flags in (PRESENT | HAS_EXTENSIONS, PRESENT | HAS_KEY):
            assert use(store, passkey.answer_to(options_for(store), flags=flags, behind=behind)) is None
    assert registered(store, Authenticator(), cbor=data) is None
    assert registered(store, Authenticator(), extensions=data) is None
    _, pending, options = begin(store, "alice")
    for attestation in (
        data,
        b"\xa3" + encode_cbor("fmt") + encode_cbor("none") + encode_cbor("attStmt") + data,
    ):
        text = passkey.answer(
            clientDataJSON=passkey.client("create", options["challenge"]), attestationObject=attestation
        )
        assert passkeys.verify_registration(text, ORIGIN, pending.secret, []) is None
    assert time.monotonic() - began < 5


@given(st.binary(max_size=200))
def test_plain_cbor_is_told_from_any_bytes(data):
    is_plain(data)


cbor_items = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**64 - 1)
    | st.floats()
    | st.binary(max_size=300)
    | st.text(max_size=30),
    lambda items: (
        st.lists(items, max_size=30) | st.dictionaries(st.integers(-9, 9) | st.text(max_size=5), items)
    ),
    max_leaves=20,
)


def depth_of(item):
    parts = item.values() if isinstance(item, dict) else item if isinstance(item, list) else None
    return 1 if parts is None else 1 + max((depth_of(part) for part in parts), default=0)


@given(cbor_items, st.data())
def test_plain_cbor_is_plain_and_cut_off_it_is_not(item, data):
    whole = encode_cbor(item)
    assert is_plain(whole) == (depth_of(item) <= 8)
    cut = data.draw(st.integers(1, len(whole)))
    assert not is_plain(whole[:-cut]) or cut == len(whole)
    assert not is_plain(b"\xd8\x1c" + whole)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One store for all examples, and Alice's passkey in it."""
    opened = Store(f"sqlite:///{tmp_path_factory.mktemp('fuzz')}/carme.sqlite", SecretBox([os.urandom(32)]))
    opened.add_totp("alice", SECRET)
    made = Authenticator()
    assert add(opened, "alice", made)
    yield opened, made
    opened.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda items: st.lists(items, max_size=4) | st.dictionaries(st.text(max_size=8), items, max_size=4),
    max_leaves=8,
)


@given(st.text(max_size=5000).map("{".__add__))
def test_any_text_is_refused(shared, text):
    store, _ = shared
    assert use(store, text) is None
    assert passkeys.verify_registration(text, ORIGIN, SECRET, []) is None


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "{}",
        "{" + '"":{' * 1000 + "}" * 1001,
        '{"a":' + "[" * 4000,
        '{"a":' + "9" * 4000 + "}",
        '{"a":1e999999}',
        '{"id":"\\ud800","rawId":"\\ud800","response":{}}',
        '{"id":' + '"A"' * 2000 + "}",
        "{" * 100_000,
    ],
)
def test_a_text_that_is_hard_to_read_is_refused(shared, text):
    store, _ = shared
    assert use(store, text) is None
    assert passkeys.verify_registration(text, ORIGIN, SECRET, []) is None


def spoilt(data, text):
    """What an authenticator said, with one part replaced by anything."""
    fields = json.loads(text)
    place = data.draw(st.sampled_from(["field", "part", "bytes", "said"]))
    if place == "field":
        fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(json_values)
        return fields
    response = fields["response"]
    name = data.draw(st.sampled_from(sorted(response)))
    if place == "part":
        response[name] = data.draw(json_values)
    elif place == "bytes":
        response[name] = text_of(data.draw(st.binary(max_size=400)))
    else:
        client = json.loads(bytes_of(response["clientDataJSON"]))
        what = data.draw(st.sampled_from(["type", "challenge", "origin", "crossOrigin", "tokenBinding"]))
        client[what] = data.draw(json_values)
        response["clientDataJSON"] = text_of(json.dumps(client).encode())
    return fields


@given(st.data())
def test_an_answer_with_any_other_part_is_refused(shared, data):
    store, made = shared
    text = made.answer_to(options_for(store))
    fields = spoilt(data, text)
    assert use(store, json.dumps(fields)) is None or fields == json.loads(text)


@given(st.data())
def test_a_registration_with_any_other_part_is_no_error(shared, data):
    store, made = shared
    _, pending, options = begin(store, "alice")
    fields = spoilt(data, made.make(options))
    passkeys.verify_registration(json.dumps(fields), ORIGIN, pending.secret, [])


# ---- settings and lengths


@pytest.mark.parametrize(
    "origin",
    [
        "https://hub.example.org",
        "https://hub.example.org:8443",
        "https://hub",
        "https://xn--hb-xka.example.org",
        "http://localhost:8000",
        "http://localhost",
        "http://hub.localhost:8000",
    ],
)
def test_an_address_that_can_have_passkeys(origin):
    assert passkeys.check_origin(origin) == origin
    assert GateTraits(passkey_origin=origin).passkey_origin == origin


@pytest.mark.parametrize(
    "origin",
    [
        "http://hub.example.org",
        "http://127.0.0.1:8000",
        "http://localhost.example.org",
        "https://127.0.0.1",
        "https://[::1]",
        "https://hub.example.org/",
        "https://hub.example.org/hub",
        "https://hub.example.org?x",
        "https://hub.example.org#x",
        "https://Hub.example.org",
        "HTTPS://hub.example.org",
        "https://hub.example.org:443",
        "http://localhost:80",
        "https://hub.example.org:",
        "https://hub.example.org:x",
        "https://hub.example.org:99999",
        "https://user@hub.example.org",
        "https://hüb.example.org",
        "https://hub..example.org",
        "https://hub.example.org.",
        "https://[hub",
        "https://hub.example.org\n",
        " https://hub.example.org",
        "https:///",
        "hub.example.org",
        "*",
    ],
)
def test_an_address_that_cannot_have_passkeys_is_a_sentence(origin):
    with pytest.raises(TraitError, match=re.escape("CarmeAuthenticator.passkey_origin")):
        GateTraits(passkey_origin=origin)


def test_without_the_setting_there_are_none():
    assert GateTraits().passkey_origin == ""
    assert {path for path, _ in handlers} == {
        "/login/challenge",
        "/account/passkey",
        "/account/passkey/confirm",
    }


@pytest.mark.parametrize(
    ("code", "is_usable"),
    [
        ("123456", True),
        ("1" * 64, True),
        ("1" * 65, False),
        (" " * 4000 + "{", True),
        ("{" + "1" * 4095, True),
        ("{" + "1" * 4096, False),
        ("1{" + "1" * 100, False),
        ("", True),
        (None, False),
        (["{"], False),
        ({}, False),
        (b"{", False),
    ],
)
def test_only_what_a_passkey_answered_may_be_long(code, is_usable):
    asked = {"username": "alice", "password": "secret", "otp": code}
    assert (credentials.usable_code(code) is not None) == is_usable
    assert (credentials.parse(asked, "[a-z]+") is not None) == is_usable
