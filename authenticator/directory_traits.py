"""What an admin can set about the directory in ``jupyterhub_config.py``."""

from typing import Any

from ldapauthenticator.ldapauthenticator import TlsStrategy
from traitlets import Float, Integer, List, TraitError, Unicode, Union, validate

from carme_hub.authenticator.conventions import Conventions
from carme_hub.authenticator.directory import Settings
from carme_hub.authenticator.servers import parse_server


class DirectoryTraits(Conventions):
    """
    The directory's settings; those that are not listed here mean what they mean for ldapauthenticator.

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
        `group_search_filter` finds become the person's groups in JupyterHub, by their `cn` (of several, the
        one in the distinguished name). Empty (default): nobody has groups.
        """,
    )
    nested_group_levels = Integer(
        5,
        min=0,
        max=20,
        config=True,
        help="""
        How many levels of groups in groups count: with 1, the groups that the person's own groups are
        members of, with 2 also theirs. 0: only the person's own. Each level that has groups costs a login one
        question to the directory.
        """,
    )
    member_of_attribute = Unicode(
        config=True,
        help="""
        Attribute of a person's entry that names groups, for example `"memberOf"`. Those below
        `group_search_base` count besides the groups that are found by search, by the `cn` in their
        distinguished name. Where it names all there are, an empty `group_search_filter` saves the search.
        Empty (default): it is not read.
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
        if self.lookup_dn and not self.user_search_base:
            raise ValueError("CarmeAuthenticator.lookup_dn needs user_search_base: where are the people?")
        if self.member_of_attribute and not self.group_search_base:
            raise ValueError(
                "CarmeAuthenticator.member_of_attribute needs group_search_base: only groups below it count."
            )
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
            nested_group_levels=self.nested_group_levels,
            member_of_attribute=self.member_of_attribute,
            service_dn=self.lookup_dn_search_user or "",
            service_password=self.lookup_dn_search_password or "",
        )
