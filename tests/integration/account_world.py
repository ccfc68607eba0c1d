"""What the tests of the account's pages share: somebody who is signed in, and what their pages say."""

from __future__ import annotations

import contextlib
import html
import re
import time

import pyotp

from tests.integration.gate_world import PASSWORDS, code, form_field, wait_for

REFUSED = "Password or code was not right"
CHANGES = [
    "/hub/account/device",
    "/hub/account/device/remove",
    "/hub/account/recovery",
    "/hub/account/password",
]
FORMS = [*CHANGES, "/hub/account/device/confirm", "/hub/account/notices"]


@contextlib.contextmanager
def signed_in(gate, username):
    """Somebody with a fresh device, whose browser is in; the code of the present step is unused."""
    secret = gate.enrol(username)
    wait_for(lambda: time.time() % 30 < 27, "a time step that does not end at once")
    with gate.visitor() as somebody:
        assert somebody.login(username, PASSWORDS[username], code(secret, -1)).status_code == 302
        somebody.name, somebody.secret = username, secret
        yield somebody


def proof(somebody, **more):
    """Password and a code of the present step."""
    return {"password": PASSWORDS[somebody.name], "otp": code(somebody.secret), **more}


def names(gate, username):
    return sorted(device.name for device in gate.store.devices(username))


def state(gate, username):
    """All that a change could change, but for the counters."""
    account = gate.store.account(username)
    return account.devices, account.recovery_left, gate.store.audit.notices(username)


def text_of(answer):
    """What a page says. Its encoding stands in the page, not in the header, where requests looks for it."""
    page = answer.content.decode()
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)))


def begin(gate, somebody, **more):
    """Ask for a second device; returns secret and ticket."""
    shown = somebody.post("/hub/account/device", proof(somebody, **more))
    assert shown.status_code == 200, shown.text
    return secret_of(gate, shown.text), form_field(shown.text, "ticket")


def secret_of(gate, page):
    secret = re.search(r'id="secret_text"[^>]*>([A-Z2-7 ]+)<', page)[1].replace(" ", "")
    gate.issued.append(secret)
    return secret


def codes_of(gate, page):
    codes = re.findall(r"\b[0-9]{5}(?:-[0-9]{5}){3}\b", re.sub(r'href="[^"]*"', "", page))
    gate.issued.extend(codes)
    return codes


def add_second(gate, username, name="Second"):
    secret = pyotp.random_base32()
    gate.issued.append(secret)
    return gate.store.add_totp(username, secret, name), secret


def assert_unwritten(gate):
    """No secret that a test has seen is in log or audit log."""
    written = gate.log + (gate.folder / "audit.jsonl").read_text()
    assert gate.issued
    # Alice's stood in addresses, where a test put it.
    for secret in (*gate.issued, *(PASSWORDS[name] for name in PASSWORDS if name != "alice")):
        assert secret not in written
