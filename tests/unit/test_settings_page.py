"""docs/configuration.md says what the code says, and the code says something of each setting."""

import importlib
import pkgutil
import re
from pathlib import Path

import pytest
from pydantic import BaseModel
from traitlets.config import Configurable

import carme_hub
from carme_hub import settings_page
from carme_hub.spawner.catalog import Catalog

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
# Programs, which do something when they are imported.
PROGRAMS = ("__main__", "migrations.")


def ours(kind):
    """Return all classes of a kind that carme_hub has."""
    for module in pkgutil.walk_packages(carme_hub.__path__, "carme_hub."):
        if not any(name in module.name for name in PROGRAMS):
            importlib.import_module(module.name)
    found, left = set(), [kind]
    while left:
        for child in left.pop().__subclasses__():
            left.append(child)
            if child.__module__.startswith("carme_hub."):
                found.add(child)
    return found


def test_the_page_is_what_the_code_says():
    assert settings_page.page() == PAGE.read_text(encoding="utf-8"), f"run {settings_page.COMMAND}"


def test_each_setting_of_ours_is_on_the_page_with_a_help_text():
    shown = {
        name: trait
        for cls in settings_page.CLASSES
        for name, trait in settings_page.own_settings(cls).items()
    }
    for cls in ours(Configurable):
        for name in settings_page.own_settings(cls):
            assert name in shown, f"{cls.__name__}.{name} is not in docs/configuration.md"
    for name, trait in shown.items():
        assert len(trait.help.split()) > 3, f"{name} has no help text"


def test_each_model_of_a_setting_is_on_the_page_with_descriptions():
    shown = {model for _, model, _ in settings_page.MODELS}
    models = {model for model in ours(BaseModel) if model.model_fields}
    assert models == shown
    for model in models:
        assert model.__doc__
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name} has no description"


def test_batchspawners_and_wrapspawners_settings_are_not_shown():
    text = settings_page.page()
    assert not re.search(r"^#.*(batch_|req_|exec_prefix|child_)", text, re.MULTILINE)


def test_links_inside_the_page_lead_somewhere():
    text = settings_page.page()
    targets = {
        settings_page._anchor(line.lstrip("# ")) for line in re.findall(r"^##+ .*", text, re.MULTILINE)
    }
    links = re.findall(r"\]\(#([^)]*)\)", text)
    assert len(links) > 30
    assert set(links) <= targets


def test_a_line_break_or_a_pipe_does_not_break_a_table():
    for line in settings_page.page().splitlines():
        if line.startswith("| "):
            assert len(re.split(r"(?<!\\)\|", line)) == 6, line


@pytest.mark.parametrize("left_out", ["title", "default_time"])
def test_what_the_page_calls_needed_is(left_out):
    profile = {"name": "x", "title": "X", "default_time": "60"}
    del profile[left_out]
    needed = left_out in settings_page._needed(settings_page.catalog.Profile)
    try:
        Catalog.load({}, {}, [profile])
    except ValueError:
        assert needed
    else:
        assert not needed
