"""What an admin can set about the gate in ``jupyterhub_config.py``."""

from typing import Any

from jupyterhub.auth import Authenticator
from traitlets import Bool, Integer, Set, TraitError, Unicode, validate

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
        SQLAlchemy address of the gate's own database (devices, enrolments). An SQLite file is made with
        mode 0600.
        """,
    )
    secret_key_file = Unicode(
        "/etc/jupyterhub/carme.key",
        config=True,
        help="""
        File with the keys for the secrets in the database: 32 bytes in base64, one key a line; the first
        encrypts, all decrypt. Only its owner (and group) may read it. `carme new-key FILE` makes one. The
        environment variable CARME_SECRET_KEY, where set, is used in its place.

        Keep a copy apart from the database's: without it all devices are lost.
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
