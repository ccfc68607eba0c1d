"""Change a password through the directory (RFC 3062)."""

from collections.abc import Mapping
from typing import Any

from ldap3.core.exceptions import LDAPException
from ldap3.core.results import (
    RESULT_BUSY,
    RESULT_CONFIDENTIALITY_REQUIRED,
    RESULT_CONSTRAINT_VIOLATION,
    RESULT_INAPPROPRIATE_AUTHENTICATION,
    RESULT_INSUFFICIENT_ACCESS_RIGHTS,
    RESULT_INVALID_ATTRIBUTE_SYNTAX,
    RESULT_INVALID_CREDENTIALS,
    RESULT_NO_SUCH_OBJECT,
    RESULT_OBJECT_CLASS_VIOLATION,
    RESULT_PROTOCOL_ERROR,
    RESULT_REFERRAL,
    RESULT_STRONGER_AUTH_REQUIRED,
    RESULT_SUCCESS,
    RESULT_UNAVAILABLE,
    RESULT_UNAVAILABLE_CRITICAL_EXTENSION,
    RESULT_UNWILLING_TO_PERFORM,
)
from ldap3.protocol.rfc3062 import PasswdModifyRequestValue

from carme_hub.authenticator import policy
from carme_hub.authenticator.directory_errors import (
    ChangeUnclearError,
    PasswordPolicyError,
    WrongPasswordError,
)

OPERATION = "1.3.6.1.4.1.4203.1.11.1"

NOT_OFFERED = (
    "The directory does not offer changing passwords this way. Change yours where you got it, or ask your "
    "administrator."
)
NOT_ALLOWED = "The directory does not let you change your password. Ask your administrator for a new one."
NOT_TAKEN = "The directory did not take the new password."

# Answers after which nothing has happened here, but may at another server: this one only reads, or is busy.
_ELSEWHERE = frozenset({RESULT_REFERRAL, RESULT_BUSY, RESULT_UNAVAILABLE})
# Answers that are about the password, or about who may do this: the same at every server.
_REFUSALS = {
    RESULT_PROTOCOL_ERROR: NOT_OFFERED,
    RESULT_UNAVAILABLE_CRITICAL_EXTENSION: NOT_OFFERED,
    RESULT_INSUFFICIENT_ACCESS_RIGHTS: NOT_ALLOWED,
    RESULT_INAPPROPRIATE_AUTHENTICATION: NOT_ALLOWED,
    RESULT_STRONGER_AUTH_REQUIRED: NOT_ALLOWED,
    RESULT_CONFIDENTIALITY_REQUIRED: NOT_ALLOWED,
    RESULT_NO_SUCH_OBJECT: NOT_ALLOWED,
    RESULT_CONSTRAINT_VIOLATION: NOT_TAKEN,
    RESULT_INVALID_ATTRIBUTE_SYNTAX: NOT_TAKEN,
    RESULT_OBJECT_CLASS_VIOLATION: NOT_TAKEN,
    RESULT_UNWILLING_TO_PERFORM: NOT_TAKEN,
}


class ElsewhereError(LDAPException):  # type: ignore[misc] # ldap3 ships no types
    """A server that is well does not change passwords, or not now; another one may."""


def change(connection: Any, old: str, new: str) -> None:
    """
    Change the password of whoever is bound to a connection.

    Parameters
    ----------
    connection
        Bound as the person.
    old, new
        Not empty: for an empty one the server makes one up, which nobody would know (RFC 3062, section 2).
        The old one goes along, because a policy may want to see it again (pwdSafeModify).

    Raises
    ------
    WrongPasswordError, PasswordPolicyError
        The old password stays.
    ElsewhereError
        Nothing has happened; another server may be asked.
    ChangeUnclearError
        It was sent, and what became of it is not known. It must not be sent again: at a second server the
        old password may be the wrong one already, and a policy counts that as an attack on the account.
    """
    request = PasswdModifyRequestValue()
    # No user is named: the server takes the one who is bound, and none else.
    request["oldPasswd"] = old.encode()
    request["newPasswd"] = new.encode()
    connection.fast_decoder = False  # ldap3's fast one breaks on a referral, which says that nothing happened
    try:
        connection.extended(OPERATION, request, [(policy.CONTROL, False, None)])
        result = connection.result
    except Exception as error:  # whatever it was, it was after the sending
        raise ChangeUnclearError(f"no answer to the change of a password: {error}") from error
    _check(result)


def _check(result: Mapping[str, Any]) -> None:
    code = result["result"]
    if code == RESULT_SUCCESS:
        return
    words = policy.words_of(result)
    if code in _ELSEWHERE:
        raise ElsewhereError(f"it changes no passwords: {result['description']} {words}")
    said = f' It says: "{words}".' if words else ""
    error = policy.error_of(result)
    if error in policy.SENTENCES:
        # What is good enough only the server knows; the other sentences say all there is.
        raise PasswordPolicyError(policy.SENTENCES[error] + (said if error == policy.QUALITY else ""))
    if code == RESULT_INVALID_CREDENTIALS:
        raise WrongPasswordError
    if code not in _REFUSALS:
        raise ChangeUnclearError(f"change of a password: {result['description']} {words}")
    raise PasswordPolicyError(_REFUSALS[code] + said)
