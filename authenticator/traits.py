"""What an admin can set about the gate in ``jupyterhub_config.py``."""

from typing import Any

from jupyterhub.auth import Authenticator
from ldapauthenticator import LDAPAuthenticator
from ldapauthenticator.ldapauthenticator import TlsStrategy
from traitlets import Bool, Float, Integer, List, Set, TraitError, Unicode, Union, validate

from carme_hub.authenticator.directory import Settings
from carme_hub.authenticator.servers import parse_server


class GateTraits(LDAPAuthenticator):  # type: ignore[misc] # JupyterHub ships no types
    """
    The settings; those that are not listed here mean what they mean for ldapauthenticator.

    That package is not asked for anything else: the directory is reached through `directory.Directory`.
    """

    server_address = Union(
        [List(Unicode()), Unicode()],
        config=True,
        help="""
        The directory servers, tried in this order: `host` or `host:port` each, for example
        `["ldap1.example.org", "ldap2.example.org:1389"]`. One server may be given as plain text.

        The name has to be the one in the server's certificate.
        """,
    )
    ca_file = Unicode(
        config=True,
        help="""
        File with the certificate authorities (PEM) that the directory's certificate is checked against.
        Empty (default): those of the system.
        """,
    )
    group_search_base = Unicode(
        config=True,
        help="""
        Where groups are, for example `"ou=groups,dc=example,dc=org"`. All groups below it that
        `group_search_filter` finds become the person's groups in JupyterHub, by their first `cn`.
        Empty (default): nobody has groups.
        """,
    )
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
    connect_timeout = Float(
        3.0, min=0.1, config=True, help="Seconds to wait for the connection to one directory server."
    )
    receive_timeout = Integer(
        5, min=1, config=True, help="Seconds to wait for each answer of a directory server."
    )
    directory_deadline = Float(
        15.0,
        min=0.1,
        config=True,
        help="Seconds after which a login ends with 'the directory does not answer', all servers together.",
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

    @validate("tls_kwargs")  # type: ignore[untyped-decorator]
    def _only_ca_file(self, proposal: Any) -> dict[str, Any]:
        if proposal.value:
            raise TraitError(
                "CarmeAuthenticator.tls_kwargs is not used: certificates are always checked. Name the "
                "authority in ca_file; whoever wants no encryption at all says tls_strategy = 'insecure'."
            )
        return {}

    def directory_settings(self) -> Settings:
        """
        Say how to reach the directory, as far as that can be checked without it.

        Raises
        ------
        ValueError
            A setting is missing or makes no sense; the sentence names it.
        """
        addresses = [self.server_address] if isinstance(self.server_address, str) else self.server_address
        if not any(addresses):
            raise ValueError("CarmeAuthenticator.server_address is not set: name the directory server.")
        if not self.bind_dn_template and not self.lookup_dn:
            raise ValueError("CarmeAuthenticator needs bind_dn_template, or lookup_dn with user_search_base.")
        if self.tls_strategy is TlsStrategy.insecure:
            self.log.warning("tls_strategy is 'insecure': passwords travel to the directory in plain text.")
        return Settings(
            servers=tuple(parse_server(address, self.server_port) for address in addresses),
            tls=self.tls_strategy,
            ca_file=self.ca_file or None,
            connect_timeout=self.connect_timeout,
            receive_timeout=self.receive_timeout,
            deadline=self.directory_deadline,
            dn_templates=tuple(self.bind_dn_template),
            lookup=self.lookup_dn,
            lookup_filter=self.lookup_dn_search_filter or "({login_attr}={login})",
            user_search_base=self.user_search_base or "",
            user_attribute=self.user_attribute or "uid",
            user_filter=self.search_filter or "",
            group_search_base=self.group_search_base,
            group_filter=self.group_search_filter,
            service_dn=self.lookup_dn_search_user or "",
            service_password=self.lookup_dn_search_password or "",
        )
