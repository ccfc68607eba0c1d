"""Passkeys as a second factor: what a browser is asked for, and what its answer is worth. No I/O.

WebAuthn level 3 (https://www.w3.org/TR/webauthn-3/). The library verifies. What comes from outside is bounded
before it gets there, and whatever stops the library is a no.
"""

import base64
import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from webauthn import (
    generate_authentication_options,
    generate_registration_options,
    options_to_json,
    verify_authentication_response,
    verify_registration_response,
)
from webauthn.helpers import (
    base64url_to_bytes,
    decode_credential_public_key,
    decoded_public_key_to_cryptography,
    parse_authentication_credential_json,
    parse_cbor,
    parse_client_data_json,
)
from webauthn.helpers.structs import (
    AttestationConveyancePreference,
    AuthenticationCredential,
    AuthenticatorSelectionCriteria,
    PublicKeyCredentialDescriptor,
    ResidentKeyRequirement,
    UserVerificationRequirement,
)

from carme_hub.authenticator.cbor import is_plain

MAX_ASSERTION = 4096  # characters of JSON; the longest id (1023 bytes, twice) and an RSA signature fit
MAX_REGISTRATION = 8192
MAX_ID = 1023  # bytes
RSA_BITS = range(2048, 4097)

_HEAD = 37  # bytes of authenticator data: SHA-256 of the RP ID, flags, counter
_LOCAL = "localhost"
_PORTS = {"https": 443, "http": 80}
_HOST = re.compile(r"(?:[a-z0-9_-]{1,63}\.)*[a-z0-9-]*[a-z][a-z0-9-]*")


@dataclass(frozen=True)
class Passkey:
    """
    A passkey as it is kept.

    Parameters
    ----------
    id
        Of the credential.
    key
        Its public key (COSE).
    handle
        What authenticators know the account by; the same for all passkeys of an account.
    counter
        Of signatures, as it was when the passkey was made; 0 for those that do not count.
    """

    id: bytes
    key: bytes
    handle: bytes
    counter: int = 0

    @property
    def id_hash(self) -> str:
        """What the credential is found by."""
        return hash_id(self.id)

    def to_text(self) -> str:
        """Write down all but the counter, for sealing."""
        parts = {"id": self.id, "key": self.key, "handle": self.handle}
        return json.dumps({name: base64.b64encode(part).decode() for name, part in parts.items()})

    @classmethod
    def from_text(cls, text: str) -> "Passkey":
        """Read what `to_text` wrote."""
        parts = {name: base64.b64decode(part) for name, part in json.loads(text).items()}
        return cls(parts["id"], parts["key"], parts["handle"])


@dataclass(frozen=True)
class Assertion:
    """What a browser says a passkey answered: read, and not yet believed."""

    credential: AuthenticationCredential
    challenge: bytes

    @property
    def id_hash(self) -> str:
        """What the credential is found by."""
        return hash_id(self.credential.raw_id)


def hash_id(credential_id: bytes) -> str:
    """Hash the id of a credential, in hexadecimal."""
    return hashlib.sha256(credential_id).hexdigest()


def check_origin(origin: str) -> str:
    """
    Pass an address that browsers would call the origin of a page that may use passkeys.

    Raises
    ------
    ValueError
        It is none; the sentence says what it should be.
    """
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        parts, host, port = urlsplit(""), "", None
    shown = "" if port in {None, _PORTS.get(parts.scheme)} else f":{port}"
    is_local = host == _LOCAL or host.endswith(f".{_LOCAL}")
    is_safe = parts.scheme == "https" or (parts.scheme == "http" and is_local)
    if not (is_safe and _HOST.fullmatch(host) and origin == f"{parts.scheme}://{host}{shown}"):
        raise ValueError(
            f"{origin!r} is not the address of a hub as browsers write it: https, a name in lower case and "
            "not a number, perhaps a port, no path, for example https://hub.example.org."
        )
    return origin


def host_of(origin: str) -> str:
    """Return what passkeys are bound to (the RP ID)."""
    return urlsplit(origin).hostname or ""


def request_options(origin: str, challenge: bytes) -> str:
    """Say to a browser, in JSON, that any passkey of this place may answer, not which there are."""
    options = generate_authentication_options(
        rp_id=host_of(origin),
        challenge=challenge,
        user_verification=UserVerificationRequirement.PREFERRED,
    )
    return options_to_json(options)


def creation_options(origin: str, place: str, username: str, secret: str, known: list[Passkey]) -> str:
    """
    Say to a browser, in JSON, what passkey to make.

    Parameters
    ----------
    origin
        Address of the hub.
    place, username
        What people are shown.
    secret
        Of the open enrolment.
    known
        The account's passkeys; a device that holds one of them makes no second one.
    """
    options = generate_registration_options(
        rp_id=host_of(origin),
        rp_name=place,
        user_name=username,
        user_id=handle_of(secret, known),
        challenge=creation_challenge(secret),
        attestation=AttestationConveyancePreference.NONE,
        authenticator_selection=AuthenticatorSelectionCriteria(
            resident_key=ResidentKeyRequirement.REQUIRED,
            user_verification=UserVerificationRequirement.PREFERRED,
        ),
        exclude_credentials=[PublicKeyCredentialDescriptor(id=one.id) for one in known],
    )
    return options_to_json(options)


def creation_challenge(secret: str) -> bytes:
    """
    Return the challenge of an open enrolment.

    It is made from the enrolment's secret and does not show it: who is shown a challenge could otherwise have
    the enrolment confirmed as an authenticator app.
    """
    return hashlib.sha256(b"carme-hub passkey challenge\0" + secret.encode()).digest()


def handle_of(secret: str, known: list[Passkey]) -> bytes:
    """Return what authenticators know the account by: random at its first passkey, then the same."""
    if known:
        return known[0].handle
    return hashlib.sha256(b"carme-hub passkey handle\0" + secret.encode()).digest()


def parse_assertion(text: str) -> Assertion | None:
    """
    Read what `navigator.credentials.get` gave (AuthenticationResponseJSON).

    Returns
    -------
    Assertion or None
        None for whatever cannot be one, or was asked for from inside another site's page.
    """
    fields = _read(text, MAX_ASSERTION)
    try:
        credential = parse_authentication_credential_json(fields)
        client = parse_client_data_json(credential.response.client_data_json)
    except Exception:  # noqa: BLE001 - the library lets out whatever it meets in what a stranger wrote
        return None
    # We ask for no extension, so there is no CBOR behind the head, and none is read.
    if client.cross_origin or len(credential.response.authenticator_data) != _HEAD:
        return None
    return Assertion(credential, client.challenge)


def verify_assertion(assertion: Assertion, passkey: Passkey, origin: str) -> int | None:
    """
    Check type, origin, RP ID, presence of a person, and signature.

    Whether the challenge is one of ours and unused, and whether the counter has grown, is not known here, see
    `Passkeys.use`.

    Returns
    -------
    int or None
        The new counter; None where anything does not fit.
    """
    try:
        verified = verify_authentication_response(
            credential=assertion.credential,
            expected_challenge=assertion.challenge,
            expected_rp_id=host_of(origin),
            expected_origin=origin,
            credential_public_key=passkey.key,
            credential_current_sign_count=0,
        )
    except Exception:  # noqa: BLE001 - as above
        return None
    return verified.new_sign_count


def verify_registration(text: str, origin: str, secret: str, known: list[Passkey]) -> Passkey | None:
    """
    Check what `navigator.credentials.create` gave (RegistrationResponseJSON).

    Parameters
    ----------
    text
        As it came.
    origin
        Address of the hub.
    secret, known
        As for `creation_options`.

    Returns
    -------
    Passkey or None
        None where anything does not fit, or its key is none that a login can be checked with.
    """
    fields = _read(text, MAX_REGISTRATION)
    try:
        if not _attestation_is_plain(fields) or _is_cross_origin(fields):
            return None
        verified = verify_registration_response(
            credential=fields,
            expected_challenge=creation_challenge(secret),
            expected_rp_id=host_of(origin),
            expected_origin=origin,
        )
        key = decoded_public_key_to_cryptography(decode_credential_public_key(verified.credential_public_key))
    except Exception:  # noqa: BLE001 - as above
        return None
    if isinstance(key, RSAPublicKey) and key.key_size not in RSA_BITS:
        return None
    if len(verified.credential_id) > MAX_ID:
        return None
    return Passkey(
        verified.credential_id, verified.credential_public_key, handle_of(secret, known), verified.sign_count
    )


def _read(text: str, limit: int) -> dict[str, Any]:
    """Read JSON; what is no object, or too long, is an empty one."""
    try:
        fields = json.loads(text) if len(text) <= limit else {}
    except (ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def _is_cross_origin(fields: dict[str, Any]) -> bool:
    client = parse_client_data_json(base64url_to_bytes(fields["response"]["clientDataJSON"]))
    return bool(client.cross_origin)


def _attestation_is_plain(fields: dict[str, Any]) -> bool:
    """Say whether an attestation, and the key (and extensions) inside it, is CBOR that may be read."""
    attestation = base64url_to_bytes(fields["response"]["attestationObject"])
    if not is_plain(attestation):
        return False
    data = parse_cbor(attestation)["authData"]
    # Behind the head: 16 bytes that name the model, the id with its length in two bytes, the key.
    start = _HEAD + 16
    return isinstance(data, bytes) and is_plain(data[start + 2 + int.from_bytes(data[start : start + 2]) :])
