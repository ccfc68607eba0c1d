"""An authenticator in software, and the browser it is used with; any part of what they say can be wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from webauthn.helpers import encode_cbor

ORIGIN = "https://hub.example.org"
PRESENT, VERIFIED, HAS_KEY, HAS_EXTENSIONS = 0x01, 0x04, 0x40, 0x80


def text_of(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def bytes_of(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(value):
    return value.to_bytes((value.bit_length() + 7) // 8)


@dataclass
class Authenticator:
    """A passkey and the browser it is used with; every part of what they say can be another one."""

    kind: str = "ES256"
    origin: str = ORIGIN
    host: str = "hub.example.org"
    id: bytes = field(default_factory=lambda: os.urandom(32))
    counter: int = 0
    counts: bool = True

    def __post_init__(self):
        self.private = {
            "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
            "EdDSA": ed25519.Ed25519PrivateKey.generate,
            "RS256": lambda: rsa.generate_private_key(65537, 2048),
        }[self.kind]()

    @property
    def key(self):
        public = self.private.public_key()
        if self.kind == "EdDSA":
            return {1: 1, 3: -8, -1: 6, -2: public.public_bytes_raw()}
        numbers = public.public_numbers()
        if self.kind == "RS256":
            return {1: 3, 3: -257, -1: number(numbers.n), -2: number(numbers.e)}
        return {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32), -3: numbers.y.to_bytes(32)}

    def sign(self, data):
        if self.kind == "EdDSA":
            return self.private.sign(data)
        if self.kind == "RS256":
            return self.private.sign(data, padding.PKCS1v15(), hashes.SHA256())
        return self.private.sign(data, ec.ECDSA(hashes.SHA256()))

    def head(self, flags):
        self.counter += self.counts
        return hashlib.sha256(self.host.encode()).digest() + bytes([flags]) + self.counter.to_bytes(4)

    def client(self, what, challenge, **more):
        said = {"type": f"webauthn.{what}", "challenge": challenge, "origin": self.origin, **more}
        return json.dumps(said).encode()

    def make(self, options, *, key=None, cbor=None, extensions=b"", statement=None, **more):
        """Answer navigator.credentials.create."""
        flags = PRESENT | VERIFIED | HAS_KEY | (HAS_EXTENSIONS if extensions else 0)
        key = encode_cbor(key or self.key) if cbor is None else cbor
        data = self.head(flags) + bytes(16) + len(self.id).to_bytes(2) + self.id + key + extensions
        attestation = encode_cbor({"fmt": "none", "attStmt": statement or {}, "authData": data})
        client = self.client("create", options["challenge"], **more)
        return self.answer(clientDataJSON=client, attestationObject=attestation)

    def answer_to(self, options, *, what="get", flags=PRESENT | VERIFIED, behind=b"", signed=None, **more):
        """Answer navigator.credentials.get."""
        data = self.head(flags) + behind
        client = self.client(what, options["challenge"], **more)
        signature = self.sign((signed or data) + hashlib.sha256(client).digest())
        return self.answer(clientDataJSON=client, authenticatorData=data, signature=signature)

    def answer(self, **response):
        parts = {name: text_of(part) for name, part in response.items()}
        return json.dumps(
            {"id": text_of(self.id), "rawId": text_of(self.id), "type": "public-key", "response": parts}
        )
