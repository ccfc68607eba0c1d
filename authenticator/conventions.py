"""What of JupyterHub's and ldapauthenticator's a site may set and override; the rest is refused."""

from typing import Any

from ldapauthenticator import LDAPAuthenticator
from traitlets import TraitError, validate

_ATTRIBUTES = (
    "carme-hub keeps no attributes of people; names, groups and the admin's right come with each login"
)
_LOGIN_PAGE = "people come in by password and code, on the hub's login page"
_ROLES = "give roles to groups in JupyterHub.load_roles"

# Settings that are inherited and would do nothing, or shut everybody out; with what to do in their place.
REFUSED = {
    "attributes": _ATTRIBUTES,
    "auth_state_attributes": _ATTRIBUTES,
    "auto_login": _LOGIN_PAGE,
    "auto_login_oauth2_authorize": _LOGIN_PAGE,
    "escape_userdn": "names are always escaped; remove it",
    "group_attributes": "groups are found by group_search_filter, with {userdn} and {username}",
    "lookup_dn_user_dn_attribute": "with lookup_dn, people sign in at the entry that is found",
    "manage_groups": "people's groups come from the directory with each login; remove it",
    "manage_roles": _ROLES,
    "reset_managed_roles_on_startup": _ROLES,
    "use_lookup_dn_username": "people are known by user_attribute",
    "username_map": "people have the same name here, in the directory and on the cluster",
    "username_pattern": "set valid_username_regex",
}

# Methods that nobody calls.
NEVER_CALLED = {
    "get_connection": "the directory is reached by carme_hub.authenticator.connection",
    "get_user_attributes": _ATTRIBUTES,
    "load_managed_roles": _ROLES,
    "resolve_username": "set lookup_dn_search_filter",
}


class Conventions(LDAPAuthenticator):  # type: ignore[misc] # JupyterHub ships no types
    """
    Refuses what is inherited and has no effect.

    Raises
    ------
    TypeError
        When a subclass, wherever it is defined, overrides what is never called.
    """

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.__module__.startswith("carme_hub."):
            return
        mistakes = [
            f"{cls.__name__}.{name} has no effect: {why}."
            for name, why in NEVER_CALLED.items()
            if name in vars(cls)
        ]
        if mistakes:
            raise TypeError("\n".join(mistakes))

    @validate(*REFUSED)  # type: ignore[untyped-decorator]
    def _without_effect(self, proposal: Any) -> Any:
        name, value = proposal.trait.name, proposal.value
        if value == proposal.trait.default(self):
            return value
        raise TraitError(f"CarmeAuthenticator.{name} cannot be set: {REFUSED[name]}.")
