"""Secrets at rest: AES-256-GCM, bound to the account and device they belong to, keys that can be changed."""

import base64
import binascii
import hashlib
import logging
import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
NONCE_BYTES = 12
KEY_VARIABLE = "CARME_SECRET_KEY"

_log = logging.getLogger(__name__)


class SecretKeyError(Exception):
    """The keys cannot be used; the sentence says which file and what to do."""


class SecretUnreadableError(Exception):
    """A kept secret does not open: wrong key, wrong owner, or changed by somebody."""


def _key_id(key: bytes) -> str:
    return hashlib.sha256(b"carme-hub key id\0" + key).hexdigest()[:8]


def parse_keys(text: str, source: str) -> list[bytes]:
    """
    Read keys in base64, with white space between them.

    Raises
    ------
    SecretKeyError
        One is not 32 bytes in base64, or there is none; the sentence names `source`.
    """
    keys = []
    for number, line in enumerate(text.split(), start=1):
        try:
            key = base64.b64decode(line, validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise SecretKeyError(
                f"Key {number} in {source} is not {KEY_BYTES} bytes in base64. "
                "Make one with 'carme new-key FILE'."
            )
        keys.append(key)
    if not keys:
        raise SecretKeyError(f"There is no key in {source}. Make one with 'carme new-key FILE'.")
    return keys


def read_key_file(path: str) -> tuple[str, tuple[int, ...]]:
    """
    Return what a key file holds, and the state it was in.

    Raises
    ------
    SecretKeyError
        It is missing, not ours, or open to others than its owner and group.
    """
    try:
        with open(path, encoding="ascii") as file:  # noqa: PTH123 - one descriptor for check and reading
            status = os.fstat(file.fileno())
            # Root, with the `carme` command, takes the key of a hub that is an ordinary account.
            if os.geteuid() != 0 and status.st_uid not in {0, os.geteuid()}:
                raise SecretKeyError(
                    f"The key file {path} belongs to somebody else (user id {status.st_uid}), who could "
                    f"change it. Make it yours with 'chown {os.geteuid()} {path}'."
                )
            if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
                raise SecretKeyError(
                    f"The key file {path} can be read by everybody or written by its group. "
                    f"Close it with 'chmod 600 {path}'."
                )
            return file.read(), _state_of(status)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SecretKeyError(
            f"The key file {path or '(secret_key_file is not set)'} cannot be read: {reason}. "
            "Make one with 'carme new-key FILE' and name it in CarmeAuthenticator.secret_key_file."
        ) from error


def _state_of(status: os.stat_result) -> tuple[int, ...]:
    return (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _state_at(path: str) -> tuple[int, ...]:
    """Return what changes whenever the file at this path does; empty where there is none."""
    try:
        return _state_of(os.stat(path))  # noqa: PTH116 - before each use, and Path is slower
    except OSError:
        return ()


class _Keys:
    """The keys at one moment; they are replaced as a whole."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self.by_id = {_key_id(key): AESGCM(key) for key in keys}
        self.first = _key_id(keys[0])


class SecretBox:
    """
    Encrypts with the first key, decrypts with any of them.

    A new key is put in front of the old one; what is written from then on is written with it. Keys of a file
    are read again when it has changed, so that a hub goes on while ``carme rotate-key`` runs. Where the file
    cannot be used any more, what was sealed still opens with the keys that are known, and nothing new is
    sealed: its key might be lost.

    Parameters
    ----------
    keys
        32 bytes each.
    path
        The file they are from, empty where they are from elsewhere.
    state
        What the file's `state_of` was when they were read.
    """

    def __init__(self, keys: Sequence[bytes], path: str = "", state: tuple[int, ...] = ()) -> None:
        self._keys = _Keys(keys)
        self._path = path
        self._state = state
        self._error: SecretKeyError | None = None
        self._reading = threading.Lock()

    @classmethod
    def load(cls, path: str) -> Self:
        """
        Read the keys from the environment variable CARME_SECRET_KEY or, where that is empty, from a file.

        Raises
        ------
        SecretKeyError
            The file is missing, somebody else's, open to others than its owner and group, or holds no key.
        """
        from_environment = os.environ.get(KEY_VARIABLE, "")
        if from_environment:
            return cls(parse_keys(from_environment, f"the environment variable {KEY_VARIABLE}"))
        text, state = read_key_file(path)
        return cls(parse_keys(text, path), path, state)

    def _current(self) -> _Keys:
        if self._path and self._is_stale():
            with self._reading:
                if self._is_stale():  # and no other thread was here meanwhile
                    self._read_again()
        return self._keys

    def _is_stale(self) -> bool:
        return self._error is not None or _state_at(self._path) != self._state

    def _read_again(self) -> None:
        try:
            text, state = read_key_file(self._path)
            self._keys = _Keys(parse_keys(text, self._path))
        except SecretKeyError as error:
            if str(error) != str(self._error):
                _log.error("The keys that were read before stay in use. %s", error)
            self._error = error
        else:
            self._error = None
            self._state = state

    def seal(self, secret: str, *owner: str) -> str:
        """
        Encrypt a secret for its owner (purpose, account, device): ``KEYID.BASE64``.

        Raises
        ------
        SecretKeyError
            The key file was changed into something that cannot be used.
        """
        keys = self._current()
        if self._error is not None:
            raise SecretKeyError(str(self._error))
        nonce = os.urandom(NONCE_BYTES)
        sealed = nonce + keys.by_id[keys.first].encrypt(nonce, secret.encode(), _associated(owner))
        return f"{keys.first}.{base64.b64encode(sealed).decode()}"

    def is_newest(self, sealed: str) -> bool:
        """Say whether something was sealed with the first key."""
        return sealed.partition(".")[0] == self._current().first

    def open(self, sealed: str, *owner: str) -> str:
        """
        Decrypt a secret for its owner.

        Raises
        ------
        SecretUnreadableError
            No key of ours made it, or it was made for another owner.
        """
        key_id, _, body = sealed.partition(".")
        key = self._current().by_id.get(key_id)
        if key is None:
            raise SecretUnreadableError(
                f"A secret was written with the key {key_id}, which is not in the key file."
            )
        try:
            raw = base64.b64decode(body, validate=True)
            return key.decrypt(raw[:NONCE_BYTES], raw[NONCE_BYTES:], _associated(owner)).decode()
        except (InvalidTag, ValueError) as error:
            raise SecretUnreadableError(
                "A secret was changed or belongs to another account or device."
            ) from error


def _associated(owner: Sequence[str]) -> bytes:
    # Lengths in front, so that ("ab", "c") and ("a", "bc") are two owners.
    return b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in owner)


def fresh_key() -> str:
    """Return a new random key, in base64."""
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def new_key_file(path: Path) -> None:
    """
    Write a new random key to a new file that only its owner can read.

    Raises
    ------
    SecretKeyError
        The file exists (a key that is lost takes all devices with it) or cannot be written.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise SecretKeyError(f"{path} exists already and is left as it is.") from error
    except OSError as error:
        raise SecretKeyError(f"{path} cannot be written: {error.strerror}.") from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(fresh_key() + "\n")
        file.flush()
        os.fsync(descriptor)
