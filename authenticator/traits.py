"""What an admin can set about the gate in ``jupyterhub_config.py``."""

from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import Bool, Enum, Float, Integer, Set, TraitError, Unicode, validate

from carme_hub.authenticator import passkeys
from carme_hub.authenticator.directory_traits import DirectoryTraits


class GateTraits(DirectoryTraits):
    """Who may come in, with what, and where the gate keeps what it knows."""

    allowed_groups = Set(
        Unicode(),
        config=True,
        help="""
        Names (cn) of the groups whose members may come in. Empty (default): everybody in the directory who
        has a device. Unlike ldapauthenticator's it takes names, no DNs.
        """,
    )
    admin_groups = Set(
        Unicode(),
        config=True,
        help="""
        Names (cn) of the groups whose members are admins of the hub, for example `{"hpc-admins"}`.
        Where it is set, it also takes the right away from everybody else (except `admin_users`) at their next
        login.
        """,
    )
    database_url = Unicode(
        "sqlite:////var/lib/carme-hub/carme.sqlite",
        config=True,
        help="""
        SQLAlchemy address of the gate's own database (devices, codes, audit log). An SQLite file is made
        with mode 0600. PostgreSQL: `postgresql+psycopg://user:password@host/database`, with the package
        `carme-hub[postgresql]`.
        """,
    )
    secret_key_file = Unicode(
        "/etc/jupyterhub/carme.key",
        config=True,
        help="""
        File with the keys for the secrets in the database: 32 bytes in base64, one key a line; the first
        encrypts, all decrypt. Only its owner (and group) may read it. `carme new-key FILE` makes one,
        `carme rotate-key` puts a new one in its place while the hub runs. The environment variable
        CARME_SECRET_KEY, where set, is used in its place.

        Keep a copy apart from the database's: without it all devices are lost.
        """,
    )
    enrolment = Enum(
        ("token", "first-login"),
        "token",
        config=True,
        help="""
        How a person gets the first device. `"token"` (default): with the password and a token that an admin
        made (`carme user enrol-token NAME`, or the page for admins). `"first-login"`: with the password
        alone, where the account never had a device; whoever steals the password of somebody who has not
        enrolled yet then becomes that person. A lost device is replaced by token in either case.
        """,
    )
    audit_file = Unicode(
        "/var/lib/carme-hub/audit.jsonl",
        config=True,
        help="""
        File for the audit log: a line of JSON for each login, refusal, and change of a device. Made with mode
        0600, opened anew for each line, so it can be rotated at any time. Empty: in the database only.
        """,
    )
    audit_days = Integer(
        365, min=1, config=True, help="Days for which the audit log's entries stay in the database."
    )
    refusal_seconds = Float(
        1.0,
        min=0.0,
        config=True,
        help="""
        A refused login is answered this many seconds after it came in, or a multiple of it: so that the time
        does not tell what was wrong. More than the directory normally takes.
        """,
    )
    refresh_grace = Integer(
        3600,
        min=0,
        config=True,
        help="""
        Seconds for which people stay logged in while the directory cannot say whether they still belong to
        it, from the last time it did.
        """,
    )
    totp_window = Integer(
        1,
        min=0,
        max=1,
        config=True,
        help="Time steps of 30 s before and after the present one whose code is accepted: 1, or 0 (strict).",
    )
    issuer = Unicode(
        "JupyterHub",
        config=True,
        help="What authenticator apps show as the name of this place, beside the account.",
    )

    passkey_origin = Unicode(
        config=True,
        help="""
        Address at which people open the hub, as browsers write it, for example `"https://hub.example.org"`:
        with it, people can add passkeys to their accounts and use them in place of the one-time code. Empty
        (default): there are no passkeys. `http` is taken for `localhost` alone.

        Passkeys are bound to the host's name: under another one, none that was made before fits.
        """,
    )

    # Shorter than JupyterHub's: these names end up in paths and job scripts.
    valid_username_regex = Unicode(
        r"[a-z][a-z0-9._-]{0,31}",
        config=True,
        help="Regular expression that a whole lower-case name has to fit.",
    )
    # JupyterHub's default would keep everybody in who once was, also those who have left their group.
    allow_existing_users = Bool(False, config=True, help=Authenticator.allow_existing_users.help)
    manage_groups = Bool(True, config=True, help=Authenticator.manage_groups.help)
    request_otp = Bool(True, help=Authenticator.request_otp.help)
    auth_refresh_strict = Bool(True, config=True, help=Authenticator.auth_refresh_strict.help)

    def _otp_prompt_default(self) -> str:
        return "One-time code"

    def _allow_all_default(self) -> bool:
        return not (self.allowed_users or self.allowed_groups or self.allow_existing_users)

    @validate("allowed_groups", "admin_groups")  # type: ignore[untyped-decorator]
    def _names_not_dns(self, proposal: Any) -> set[str]:
        for name in proposal.value:
            if "=" in name and "," in name:
                raise TraitError(
                    f"CarmeAuthenticator.{proposal.trait.name} takes names (cn) of groups, not DNs: {name!r}"
                )
        return set(proposal.value)

    @validate("passkey_origin")  # type: ignore[untyped-decorator]
    def _origin_or_none(self, proposal: Any) -> str:
        try:
            return passkeys.check_origin(proposal.value) if proposal.value else ""
        except ValueError as error:
            raise TraitError(f"CarmeAuthenticator.passkey_origin: {error}") from error

    @validate("auth_refresh_age")  # type: ignore[untyped-decorator]
    def _refresh_is_on(self, proposal: Any) -> int:
        if proposal.value <= 0:
            raise TraitError(
                "CarmeAuthenticator.auth_refresh_age must not be 0: without it, who is removed from the "
                "directory, or reset, keeps logins and API tokens. Give a number of seconds, for example 300."
            )
        return int(proposal.value)
