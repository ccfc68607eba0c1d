"""Codes, tokens and what a request may say."""

import base64

import pyotp
import pytest

from carme_hub.authenticator import credentials, totp

NAMES = r"[a-z][a-z0-9._-]{0,31}"
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
NOW = 1_700_000_015.0
STEP = 1_700_000_015 // 30


def code(step: int) -> str:
    return str(pyotp.TOTP(SECRET).generate_otp(step))


def test_the_vector_of_rfc_6238():
    secret = base64.b32encode(b"12345678901234567890").decode()
    assert (
        totp.matching_step(secret, "081804", 1_111_111_109) == 1_111_111_109 // 30
    )  # appendix B, last six digits


def test_rule_4_a_secret_has_160_bits_and_is_new_each_time():
    made = {totp.new_secret() for _ in range(50)}
    assert len(made) == 50
    assert {len(base64.b32decode(secret)) for secret in made} == {20}


@pytest.mark.parametrize("offset", [-1, 0, 1])
def test_rule_4_a_step_beside_the_present_one_fits(offset):
    assert totp.matching_step(SECRET, code(STEP + offset), NOW) == STEP + offset


@pytest.mark.parametrize("offset", [-2, 2, 100])
def test_a_step_further_away_does_not(offset):
    assert totp.matching_step(SECRET, code(STEP + offset), NOW) is None


def test_a_window_of_nothing_takes_the_present_step_only():
    assert totp.matching_step(SECRET, code(STEP), NOW, window=0) == STEP
    assert totp.matching_step(SECRET, code(STEP - 1), NOW, window=0) is None


def twins(right: str) -> list[str]:
    return [
        "".join(chr(ord(digit) - ord("0") + ord("０")) for digit in right),  # noqa: RUF001 - fullwidth
        "".join(chr(ord(digit) - ord("0") + 0x0660) for digit in right),  # Arabic-Indic
        f" {right}",
        f"{right}\n",
        f"{right[:3]} {right[3:]}",
        f"+{right}",
        right[:5],
        f"{right}0",
        "",
    ]


@pytest.mark.parametrize("index", range(9))
def test_rule_4_only_six_ascii_digits_are_a_code(index):
    assert totp.matching_step(SECRET, twins(code(STEP))[index], NOW) is None


def test_hole_7_plain_pyotp_takes_fullwidth_digits():
    fullwidth = twins(code(STEP))[0]
    assert fullwidth != code(STEP)
    assert pyotp.TOTP(SECRET).verify(fullwidth, for_time=int(NOW))  # the hole
    assert totp.matching_step(SECRET, fullwidth, NOW) is None  # ours


def test_the_uri_names_issuer_account_and_secret():
    uri = totp.provisioning_uri(SECRET, "alice", "Our Cluster")
    assert uri.startswith("otpauth://totp/Our%20Cluster:alice?")
    assert f"secret={SECRET}" in uri


def test_a_token_is_long_and_kept_as_its_hash():
    token = totp.new_token()
    assert len(base64.urlsafe_b64decode(token + "=")) >= 16
    kept = totp.hash_token(token)
    assert token not in kept
    assert totp.token_matches(token, kept)
    assert not totp.token_matches(totp.new_token(), kept)
    assert not totp.token_matches("", kept)


@pytest.mark.parametrize("typed", ["alice", "ALICE", "Alice"])
def test_rule_2_one_canonical_name(typed):
    assert credentials.canonical_name(typed, NAMES) == "alice"


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "alice\n",
        "alice ",
        " alice",
        "al\0ice",
        "*)(uid=*",
        "alice,ou=people",
        "../alice",
        "\u212aarl",  # the Kelvin sign, which lower() turns into k
        "ａlice",  # noqa: RUF001 - fullwidth
        "1alice",
        "a" * 33,
        "a" * 100_000,
        None,
        7,
        ["alice"],
        {"alice": 1},
        b"alice",
    ],
)
def test_rule_2_what_cannot_be_a_name(typed):
    assert credentials.canonical_name(typed, NAMES) is None


@pytest.mark.parametrize(
    "password", ["", " ", "\t\n", None, 1, ["x"], "a\0b", "\ud800", "x" * 1025, "ä" * 600]
)
def test_rule_3_passwords_that_never_reach_the_directory(password):
    assert credentials.usable_password(password) is None


@pytest.mark.parametrize("password", ["x", " leading and trailing ", "ä" * 500, "(*)\\,"])
def test_passwords_that_do_as_they_are(password):
    assert credentials.usable_password(password) == password


@pytest.mark.parametrize(
    "data",
    [
        None,
        "alice",
        [],
        ["alice", "x", "123456"],
        {},
        {"username": "alice"},
        {"username": "alice", "password": "x"},
        {"username": "alice", "password": "x", "otp": None},
        {"username": "alice", "password": "x", "otp": 123456},
        {"username": "alice", "password": "x", "otp": ["123456"]},
        {"username": "alice", "password": {"$ne": 1}, "otp": "123456"},
        {"username": {"name": "alice"}, "password": "x", "otp": "123456"},
        {"username": "alice", "password": "x", "otp": "1" * 65},
    ],
)
def test_rule_1_shapes_that_are_no_login(data):
    assert credentials.parse(data, NAMES) is None


def test_a_login_shows_no_secret_when_printed():
    parsed = credentials.parse(
        {"username": "Alice", "password": "pass-word", "otp": "123456", "admin": True}, NAMES
    )
    assert parsed == credentials.Credentials("alice", "pass-word", "123456")
    assert "pass-word" not in repr(parsed)
    assert "123456" not in repr(parsed)
