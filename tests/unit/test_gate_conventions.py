"""What JupyterHub and ldapauthenticator can be told: it counts for our gate, or is refused in a sentence.

Both classes' settings and methods are walked, so that a new one fails here until it is decided about.
"""

from __future__ import annotations

import pytest
from jupyterhub.auth import Authenticator
from ldapauthenticator import LDAPAuthenticator
from ldapauthenticator.ldapauthenticator import TlsStrategy
from traitlets import TraitError
from traitlets.config import Config, LoggingConfigurable

from carme_hub.authenticator import conventions
from carme_hub.authenticator.authenticator import CarmeAuthenticator

# What `directory_settings` hands to the part that asks the directory.
DIRECTORY = {
    "bind_dn_template": (["uid={username},dc=x"], "dn_templates", ("uid={username},dc=x",)),
    "group_search_filter": ("(x={userdn})", "group_filter", "(x={userdn})"),
    "lookup_dn": (True, "lookup", True),
    "lookup_dn_search_filter": ("(x={login})", "lookup_filter", "(x={login})"),
    "lookup_dn_search_password": ("secret", "service_password", "secret"),
    "lookup_dn_search_user": ("cn=reader", "service_dn", "cn=reader"),
    "search_filter": ("(x=y)", "user_filter", "(x=y)"),
    "server_port": (1389, "servers", "ldap.example.org:1389"),
    "tls_strategy": ("insecure", "tls", TlsStrategy.insecure),
    "use_ssl": (True, "tls", TlsStrategy.on_connect),
    "user_attribute": ("cn", "user_attribute", "cn"),
    "user_search_base": ("ou=x", "user_search_base", "ou=x"),
    "server_address": (["other.example.org"], "servers", "other.example.org:389"),
}
# Read by JupyterHub at our authenticator, on its own ways: allowed, blocked, renewed.
HUB = {
    *("admin_users", "allow_all", "allow_existing_users", "allowed_users", "any_allow_config"),
    *("auth_refresh_age", "auth_refresh_strict", "blocked_users", "delete_invalid_users"),
    *("enable_auth_state", "otp_prompt", "post_auth_hook", "reconcile_auth_state_hook", "refresh_pre_spawn"),
    *("refresh_pre_stop", "request_otp", "whitelist"),
}
# Ours by the same name, with a meaning of their own; or refused with another sentence (tls_kwargs).
OURS = {"allowed_groups", "valid_username_regex", "tls_kwargs"}
METHODS = {
    *("add_user", "authenticate", "check_allow_config", "check_allowed", "check_blacklist"),
    *("check_blocked_users", "check_whitelist", "delete_user", "get_authenticated_user", "get_custom_html"),
    *("get_handlers", "is_admin", "login_url", "logout_url", "normalize_username", "post_spawn_stop"),
    *("pre_spawn_start", "refresh_user", "run_post_auth_hook", "validate_username"),
}


def gate(**settings):
    given = {"server_address": ["ldap.example.org"], "bind_dn_template": ["uid={username}"]} | settings
    return CarmeAuthenticator(config=Config(CarmeAuthenticator=given))


def test_f4_every_setting_is_decided_about():
    settings = {
        name for name, trait in LDAPAuthenticator.class_traits().items() if trait.metadata.get("config")
    }
    assert settings == set(DIRECTORY) | HUB | OURS | set(conventions.REFUSED)


def test_f4_every_method_is_decided_about():
    base = set(dir(LoggingConfigurable)) | set(LDAPAuthenticator.class_traits())
    methods = {name for name in dir(LDAPAuthenticator) if not name.startswith("_")} - base
    assert methods == METHODS | set(conventions.NEVER_CALLED)


@pytest.mark.parametrize("name", sorted(DIRECTORY))
def test_f4_a_setting_of_the_directory_counts(name):
    value, where, expected = DIRECTORY[name]
    more = {"user_search_base": "ou=x"} if name == "lookup_dn" else {}
    found = getattr(gate(**{name: value, **more}).directory_settings(), where)
    assert (str(found[0]) if where == "servers" else found) == expected


@pytest.mark.parametrize("name", sorted(conventions.REFUSED))
@pytest.mark.parametrize("section", ["CarmeAuthenticator", "LDAPAuthenticator"])
def test_f4_what_would_do_nothing_is_refused(name, section):
    value = {
        **{key: ["mail"] for key in ("attributes", "auth_state_attributes", "group_attributes")},
        **dict.fromkeys(("lookup_dn_user_dn_attribute", "username_pattern"), "x"),
        "username_map": {"a": "b"},
    }.get(name, not CarmeAuthenticator.class_traits()[name].default())
    if name in {"username_map", "username_pattern"} or name.startswith(("auto", "manage", "reset")):
        section = section.replace("LDAP", "")
    config = Config()
    config[section][name] = value
    with pytest.raises(TraitError, match=rf"^CarmeAuthenticator\.{name} cannot be set: .+\.$"):
        CarmeAuthenticator(config=config)


@pytest.mark.parametrize("name", sorted(conventions.REFUSED))
def test_f4_the_default_said_once_more_is_no_mistake(name):
    default = CarmeAuthenticator.class_traits()[name].default(CarmeAuthenticator())
    assert getattr(gate(**{name: default}), name) == default


@pytest.mark.parametrize("name", sorted(conventions.NEVER_CALLED))
def test_f4_overriding_what_is_never_called_is_refused(name):
    with pytest.raises(TypeError, match=rf"^SiteGate\.{name} has no effect: .+\.$"):
        type("SiteGate", (CarmeAuthenticator,), {name: lambda _self: None})


@pytest.mark.parametrize("name", sorted(METHODS))
def test_f4_other_methods_can_be_overridden(name):
    site = type("SiteGate", (CarmeAuthenticator,), {name: getattr(Authenticator, name)})
    assert name in vars(site)
