"""
What a directory's password policy says (draft-behera-ldap-password-policy), in people's words. No I/O.

The draft never became an RFC; OpenLDAP's ppolicy overlay, 389 Directory Server and others follow it.
"""

from collections.abc import Mapping
from typing import Any

from pyasn1.codec.ber import decoder  # type: ignore[import-untyped]
from pyasn1.error import PyAsn1Error  # type: ignore[import-untyped]
from pyasn1.type import namedtype, tag, univ  # type: ignore[import-untyped]

CONTROL = "1.3.6.1.4.1.42.2.27.8.5.1"
MAX_WORDS = 200  # characters of a server's own words that are passed on

PASSWORD_EXPIRED = 0
ACCOUNT_LOCKED = 1
CHANGE_AFTER_RESET = 2
QUALITY = 5

SENTENCES = {
    PASSWORD_EXPIRED: "Your password has expired, and the directory does not let you change it any more. Ask "
    "your administrator for a new one.",
    ACCOUNT_LOCKED: "The directory has locked your account. Ask your administrator.",
    CHANGE_AFTER_RESET: "The directory wants you to change your password before anything else.",
    3: "The directory does not let people change their own passwords. Ask your administrator for a new one.",
    4: "The directory wants the old password together with the new one. Tell your administrator.",
    QUALITY: "The new password is not good enough for the directory's rules. Choose a longer one, with more "
    "kinds of characters, that does not resemble your name or your old password.",
    6: "The new password is too short for the directory's rules. Choose a longer one.",
    7: "Your password was changed too recently for another change. Try again later.",
    8: "You had this password before. Choose one that you have not used yet.",
    9: "The new password is too long for the directory. Choose a shorter one.",
}


def _tagged(number: int, kind: int = tag.tagFormatSimple) -> tag.Tag:
    return tag.Tag(tag.tagClassContext, kind, number)


class _Warning(univ.Choice):  # type: ignore[misc] # pyasn1 ships no types
    componentType = namedtype.NamedTypes(  # noqa: N815 - pyasn1's names
        namedtype.NamedType("timeBeforeExpiration", univ.Integer().subtype(implicitTag=_tagged(0))),
        namedtype.NamedType("graceAuthNsRemaining", univ.Integer().subtype(implicitTag=_tagged(1))),
    )


class _Response(univ.Sequence):  # type: ignore[misc] # pyasn1 ships no types
    componentType = namedtype.NamedTypes(  # noqa: N815 - pyasn1's names
        namedtype.OptionalNamedType(
            "warning", _Warning().subtype(explicitTag=_tagged(0, tag.tagFormatConstructed))
        ),
        namedtype.OptionalNamedType("error", univ.Enumerated().subtype(implicitTag=_tagged(1))),
    )


def error_of(result: Mapping[str, Any]) -> int | None:
    """
    Return the policy's error in an answer; None where there is none, or nothing that can be read.

    Parameters
    ----------
    result
        As ldap3 gives it: ``controls`` maps an OID to a mapping with the raw ``value``.
    """
    value = ((result.get("controls") or {}).get(CONTROL) or {}).get("value")
    if not value:
        return None
    try:
        response, _ = decoder.decode(bytes(value), asn1Spec=_Response())
        return int(response["error"]) if response["error"].hasValue() else None
    except (PyAsn1Error, ValueError):
        return None


def words_of(result: Mapping[str, Any]) -> str:
    """Return a server's own words, short and on one line."""
    words = "".join(sign if sign.isprintable() else " " for sign in str(result.get("message") or ""))
    return " ".join(words.split())[:MAX_WORDS]
