"""The start page's fields as plain HTML, for a hub whose pages are JupyterHub's own.

JupyterHub's page is one form around all of it, without our scripts and style sheets: so a profile is chosen
by a radio button, and each field's name says which profile it belongs to (``gpu/nodes``). Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from carme_hub.spawner.request import FIELDS, OF_PROFILE

if TYPE_CHECKING:
    from carme_hub.spawner.form import Card, SpawnForm

_NOTHING = Markup(
    '<p class="alert alert-info">There is no profile that you may use. Ask the administrators.</p>'
)
_CARD = Markup(
    '<fieldset class="border rounded p-3 mb-3"><legend class="fs-5"><label>'
    '<input type="radio" name="profile" value="{name}" required{checked}> {title}</label></legend>\n'
    "{description}{problem}{fields}</fieldset>\n"
)
_FIELD = Markup(
    '<div class="mb-2"><label class="form-label" for="{id}">{label}</label>\n{field}{problem}</div>\n'
)
_INPUT = Markup('<input class="form-control" id="{id}" name="{name}" value="{value}"{more}>\n')
_SELECT = Markup('<select class="form-select" id="{id}" name="{name}">{options}</select>\n')
_OPTION = Markup('<option value="{value}"{selected}>{text}</option>')
_PROBLEM = Markup('<p class="text-danger">{sentence}</p>')


def render(form: SpawnForm) -> Markup:
    """Write the fields of a start page."""
    cards = (*form.courses, *form.profiles)
    if not cards:
        return _NOTHING
    only = len(cards) == 1
    return Markup("").join(_card(card, chosen=card.open or only) for card in cards)


def _card(card: Card, *, chosen: bool) -> Markup:
    profile = card.profile
    # What has a field of its own is told there.
    elsewhere = " ".join(one.sentence for one in card.problems if one.field not in card.shown_fields)
    return _CARD.format(
        name=profile.name,
        checked=Markup(" checked") if chosen else "",
        title=profile.title,
        description=Markup("<p>{}</p>\n").format(profile.description) if profile.description else "",
        problem=_problem(elsewhere),
        fields=Markup("").join(_field(card, option) for option in FIELDS if option in card.shown_fields),
    )


def _field(card: Card, option: str) -> Markup:
    identity, name = f"{card.id}-{option}", f"{card.profile.name}{OF_PROFILE}{option}"
    value, offered = card.values.get(option, ""), _offered(card, option)
    if offered:
        options = Markup("").join(
            _OPTION.format(value=one, text=text, selected=Markup(" selected") if one == value else "")
            for one, text in offered
        )
        field = _SELECT.format(id=identity, name=name, options=options)
    else:
        field = _INPUT.format(id=identity, name=name, value=value, more=_bounds(card, option))
    problem = _problem(card.error(option))
    label = card.cores_label if option == "cpus" else FIELDS[option]
    return _FIELD.format(id=identity, label=label, field=field, problem=problem)


def _offered(card: Card, option: str) -> list[tuple[str, str]]:
    """Return what can be chosen: value and text; empty for what is typed."""
    if option == "image":
        return [(image.name, image.title) for image in card.images]
    if option == "gpu_type":
        return [(name, name) for name in card.profile.gpu_types]
    names = next((choice.names for choice in card.choices if choice.option == option), ())
    return [(name, name or "none") for name in names]


def _bounds(card: Card, option: str) -> Markup:
    profile = card.profile
    bounds = {
        "gpus": (profile.min_gpus_per_node, profile.max_gpus_per_node),
        "nodes": (profile.min_nodes, profile.max_nodes),
        "tasks": (profile.min_tasks_per_node, profile.max_tasks_per_node),
        "cpus": (1, profile.max_cpus),
    }
    if option not in bounds:
        return Markup("")
    return Markup(' type="number" min="{}" max="{}"').format(*bounds[option])


def _problem(sentence: str) -> Markup:
    return _PROBLEM.format(sentence=sentence) if sentence else Markup("")
