"""The pages' Content-Security-Policy, as far as it is made without a hub."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import jinja2
import pytest
from traitlets.config import Config

import carme_hub
from carme_hub import csp

EXTENSION = "carme_hub.csp.NonceExtension"
EXTENSIONS = [EXTENSION, "carme_hub.texts.TextsExtension"]


@pytest.fixture
def handlers(monkeypatch):
    """JupyterHub's handlers; what the extension changes about them is put back."""
    changed = ("content_security_policy", "template_namespace", "render_template", "prepare")
    for name in (*changed, "set_default_headers"):
        monkeypatch.setattr(csp.BaseHandler, name, getattr(csp.BaseHandler, name))
    monkeypatch.setattr(csp.APIHandler, "check_xsrf_cookie", csp.APIHandler.check_xsrf_cookie)
    files = csp.CacheControlStaticFilesHandler
    monkeypatch.setattr(files, "prepare", files.prepare)
    return csp.BaseHandler


def render(handlers, source, **names):  # noqa: ARG001
    environment = jinja2.Environment(autoescape=True, extensions=[EXTENSION])
    return environment.from_string(source).render(csp_nonce="N", **names)


@pytest.mark.parametrize(
    ("source", "page"),
    [
        ("<script>go()</script>", '<script nonce="N">go()</script>'),
        ("<SCRIPT>go()</SCRIPT>", '<SCRIPT nonce="N">go()</SCRIPT>'),
        ("<script\n type='module'>x</script>", "<script nonce=\"N\"\n type='module'>x</script>"),
        ('<script src="{{ data }}"></script>', '<script nonce="N" src="D"></script>'),
        ("<script{{ data }}></script>", '<script nonce="N"D></script>'),
        (
            "<script>a</script> <script>b</script>",
            '<script nonce="N">a</script> <script nonce="N">b</script>',
        ),
        ("{% raw %}<script>{{ a }}</script>{% endraw %}", '<script nonce="N">{{ a }}</script>'),
        ("{# <script> #}<scripted>{{ data }}", "<scripted>D"),
        ("{% if '<script>' %}{{ '<script>' | safe }}{% endif %}", "<script>"),
    ],
)
def test_a_script_of_the_template_has_the_nonce(handlers, source, page):
    assert render(handlers, source, data="D") == page


def test_a_script_that_is_filled_in_has_none(handlers):
    script = "<script>steal()</script>"
    assert render(handlers, "{{ data | safe }}", data=script) == script
    assert "<script" not in render(handlers, "{{ data }}", data=script)


def test_every_script_of_our_pages_and_of_jupyterhubs_has_the_nonce(handlers):  # noqa: ARG001
    environment = jinja2.Environment(autoescape=True, extensions=EXTENSIONS)
    folders = [Path(carme_hub.__file__).parent / "templates", Path(sys.prefix) / "share/jupyterhub/templates"]
    tags = 0
    for file in [file for folder in folders for file in folder.glob("*.html")]:
        source = file.read_text()
        environment.parse(source)
        code = environment.compile(source, raw=True)
        opened = len(re.findall(r"<script\b", code))
        assert opened == len(re.findall(r'<script nonce="', code)), file
        tags += opened
        # What no nonce allows: code in attributes and in addresses.
        assert not re.search(r"""\son[a-z]+\s*=\s*["']|javascript:""", source), file
    assert tags > 10


def test_the_policy_forbids_what_is_not_the_hubs():
    first, second = csp.policy("N", "/hub/security/csp-report", {"https://b", "https://a"}).split(", ")
    rules = dict(rule.split(" ", 1) for rule in first.split("; "))
    assert rules["default-src"] == "'self'"
    assert rules["script-src"] == "'self' 'nonce-N'"
    assert rules["form-action"] == "'self' https://a https://b"
    assert rules["report-uri"] == "/hub/security/csp-report"
    assert {rules[name] for name in ("object-src", "base-uri", "frame-ancestors")} == {"'none'"}
    assert "unsafe-inline" not in "".join(rule for name, rule in rules.items() if name != "style-src")
    assert "unsafe-eval" not in first + second
    assert second == "script-src 'nonce-N' 'strict-dynamic'; report-uri /hub/security/csp-report"


@pytest.mark.parametrize(
    ("subdomain_host", "redirects", "targets"),
    [
        ("", [], set()),
        ("", ["/services/news/oauth_callback", "", "javascript:go()"], set()),
        ("", ["https://tools.example.org:8443/back?x=1"], {"https://tools.example.org:8443"}),
        (
            "https://hub.example.org:9443",
            [],
            {"https://hub.example.org:9443", "https://*.hub.example.org:9443"},
        ),
    ],
)
def test_forms_lead_to_sessions_and_services_too(subdomain_host, redirects, targets):
    assert csp.form_targets(subdomain_host, redirects) == targets


def test_configure_names_the_extension_and_an_admin_can_add_a_header():
    config = Config()
    carme_hub.configure(config)
    assert EXTENSION in config.JupyterHub.jinja_environment_options["extensions"]
    headers = config.JupyterHub.tornado_settings["headers"]
    assert headers == {"Referrer-Policy": "same-origin", "X-Content-Type-Options": "nosniff"}
    assert config.JupyterHub.cookie_max_age_days == 1
    assert config.JupyterHub.tornado_settings["cookie_options"] == {"SameSite": "Lax"}


def test_the_command_does_not_change_jupyterhubs_handlers():
    """Only a hub's templates do."""
    look = (
        "import sys, carme_hub, carme_hub.cli, carme_hub.gate; assert 'carme_hub.csp' not in sys.modules;"
        "import carme_hub.csp as csp; handler = csp.BaseHandler;"
        "assert handler.content_security_policy is csp._hub_policy;"
        "assert handler.template_namespace is csp._hub_namespace"
    )
    subprocess.run([sys.executable, "-c", look], check=True, timeout=60)
