"""Write docs/configuration.md from the settings' own help texts: ``python -m carme_hub.settings_page FILE``.

Nothing is said here that the code says itself: types, defaults, bounds and texts come from the traits and the
models, examples from ``etc/jupyterhub_config.py``, and what `carme_hub.configure` sets from its source.
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

import traitlets
from pydantic import BaseModel, ValidationError

import carme_hub
from carme_hub.authenticator.authenticator import CarmeAuthenticator
from carme_hub.spawner import catalog, values
from carme_hub.spawner.backends import Cluster
from carme_hub.spawner.limits import Limits
from carme_hub.spawner.spawner import CarmeSpawner

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

COMMAND = "make docs"
SITE = Path(__file__).parent / "etc" / "jupyterhub_config.py"
JUPYTERHUB = "https://jupyterhub.readthedocs.io/en/stable/reference/api"
LDAP = "https://github.com/jupyterhub/ldapauthenticator#configuration"
KEY = "name"  # of an entry in a dictionary: its key

# What an admin writes for the types that the models are made of.
WORDS = [
    (values.Name, "name"),
    (values.Text, "text"),
    (values.Word, "name"),
    (values.GpuType, "type of GPU"),
    (values.Path, "absolute path"),
    (values.Target, "absolute path"),
    (values.RelativePath, "relative path"),
    (values.Minutes, 'time: minutes ("90"), "8:00:00" or "1-00:00:00"'),
    (values.Mebibytes, 'amount of memory: "16G", "512M"'),
    (values.Names, "list of names"),
    (values.Choice, "name, or list of names"),
    (values.Groups, "list of groups"),
    (str, "text"),
    (bool, "`True` or `False`"),
    (int, "whole number"),
]
TRAITS = {
    traitlets.Unicode: "text",
    traitlets.Bool: "`True` or `False`",
    traitlets.Integer: "whole number",
    traitlets.Float: "number",
    traitlets.Dict: "dictionary",
    traitlets.List: "list",
    traitlets.Set: "set",
}

HEAD = """\
# Settings

A carme-hub site is described by one file, `/etc/jupyterhub/jupyterhub_config.py`. Start from
[etc/jupyterhub_config.py](../etc/jupyterhub_config.py), from which the examples here are taken, and check
what you wrote with `carme check`; the hub does not start with a mistake in it either.

This page is made from the code's own texts; change them there, and run `{command}`.

{contents}
"""
HUB = """\
The first line of the file sets what a carme-hub needs of JupyterHub. All of it can be changed after that
line; these are the reasons:

```python
{configure}
```

What else a site says of JupyterHub itself:

```python
{example}
```

[JupyterHub's own settings]({jupyterhub}/app.html) hold here as everywhere.
"""
SPAWNER = """\
Set on `c.CarmeSpawner`. Mistakes are told by `carme check`, each in a line with the setting it is in.

```python
{example}
```
"""
INHERITED_SPAWNER = """\
Of [JupyterHub's settings of every spawner]({jupyterhub}/spawner.html) these matter here: `environment`
(variables for all sessions), `default_url`, `cmd` and `args` (the server's command inside the container),
`notebook_dir`, `pre_spawn_hook`, `post_stop_hook`, `server_token_scopes`, and `consecutive_failure_limit`.
For the last one, and in the metrics with `status="error"`, a start counts that failed by no fault of its
person: a command of Slurm is missing, the controller does not answer. What is refused, and a job that ends
early, is a `failure` with its reason, and ends no hub.

A subclass of `CarmeSpawner` can override every method that JupyterHub's `Spawner` has, for example `get_env`
and `get_args`; `user_env` works as in `LocalProcessSpawner`. What would do nothing is refused at start, with
a sentence: `mem_limit`, `cpu_limit` and their like (a profile says what Slurm gives), `port`, `child_class`,
methods of batchspawner.
"""
AUTHENTICATOR = """\
Set on `c.CarmeAuthenticator`. What they do for people and admins is told in [Signing in](login.md).

```python
{example}
```
"""
INHERITED_AUTHENTICATOR = """\
Where people are found is said with [ldapauthenticator's settings]({ldap}): `server_port`, `tls_strategy`,
`bind_dn_template`, or `lookup_dn` with `lookup_dn_search_filter`, `lookup_dn_search_user`,
`lookup_dn_search_password`, `user_search_base` and `user_attribute`; `search_filter` narrows who comes in,
`group_search_filter` finds the groups. Of
[JupyterHub's settings of every authenticator]({jupyterhub}/auth.html) these matter here: `admin_users`,
`allowed_users`, `blocked_users`, `allow_all`, and `auth_refresh_age`, the seconds after which the directory
is asked again whether somebody still belongs to it. What would do nothing here is refused at start, with
what to do in its place: `auth_state_attributes`, `group_attributes`, `use_lookup_dn_username`,
`lookup_dn_user_dn_attribute`, `escape_userdn`, `username_map`, `username_pattern`, `auto_login`,
`manage_roles`, and `tls_kwargs`.
"""
# Setting, model, how an entry is written, whether its name is the key.
MODELS: list[tuple[str, type[BaseModel], str]] = [
    ("images", catalog.Image, "An entry of `c.CarmeSpawner.images`; its name is the key."),
    ("mounts", catalog.Mount, "An entry of `c.CarmeSpawner.mounts`; its name is the key."),
    ("profiles", catalog.Profile, "An entry of the list `c.CarmeSpawner.profiles`."),
    ("course", catalog.Course, "The value of a profile's `course`."),
    ("limits", Limits, "`c.CarmeSpawner.limits`, and an entry of `c.CarmeSpawner.group_limits`."),
    ("clusters", Cluster, "An entry of `c.CarmeSpawner.clusters`; its name is the key."),
]
KEYED = {catalog.Image, catalog.Mount, Cluster}
CLASSES = (CarmeSpawner, CarmeAuthenticator)


def own_settings(cls: type[traitlets.HasTraits]) -> dict[str, traitlets.TraitType[Any, Any]]:
    """Return the settings that a class of ours adds, or gives another default or meaning, by name."""
    ours = [base for base in cls.__mro__ if base.__module__.split(".")[0] == "carme_hub"]
    return {
        name: trait
        for name, trait in sorted(cls.class_traits(config=True).items())
        if any(name in vars(base) for base in ours)
    }


def _trait_type(trait: Any) -> str:
    if isinstance(trait, traitlets.Enum):
        return "one of " + ", ".join(f"`{value!r}`" for value in trait.values)
    if isinstance(trait, traitlets.Union):
        return " or ".join(_trait_type(one) for one in trait.trait_types)
    word = next(word for kind, word in TRAITS.items() if isinstance(trait, kind))
    least, most = getattr(trait, "min", None), getattr(trait, "max", None)
    return word + _bounds(least, most)


def _bounds(least: float | None, most: float | None) -> str:
    if least is not None and most is not None:
        return f" from {least} to {most}"
    return f", at least {least}" if least is not None else ""


def _settings(cls: type[traitlets.HasTraits]) -> Iterator[str]:
    for name, trait in own_settings(cls).items():
        value = trait.default_value_repr()
        yield f"### `{cls.__name__}.{name}`\n"
        yield f"{_trait_type(trait)[0].upper()}{_trait_type(trait)[1:]}; default `{value}`.\n"
        yield f"{paragraphs(trait.help)}\n"


def paragraphs(text: str) -> str:
    """Fold a help text's paragraphs; its lines are as long as the code's indentation left them."""
    blocks = re.split(r"\n\s*\n", inspect.cleandoc(text))
    return "\n\n".join(
        textwrap.fill(" ".join(block.split()), 110, break_long_words=False) for block in blocks
    )


def _field_type(hint: Any) -> str:
    for known, word in WORDS:
        if hint is known:
            return word
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(_field_type(part) for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(f"`{value!r}`" for value in get_args(hint))
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        return f"dictionary, see [{hint.__name__.lower()}](#{hint.__name__.lower()})"
    if get_origin(hint) is tuple:
        return f"list of: {_field_type(get_args(hint)[0])}"
    return _field_type(get_args(hint)[0])  # Annotated, with a check that its description tells


def _needed(model: type[BaseModel]) -> set[str]:
    """Return the fields that an admin has to give: some without a default are filled in from others."""
    try:
        model.model_validate({})
    except ValidationError as error:
        return {str(problem["loc"][0]) for problem in error.errors() if problem["type"] == "missing"}
    return set()


def _default(model: type[BaseModel], name: str, needed: Iterable[str]) -> str:
    field = model.model_fields[name]
    if name in needed:
        return "needed"
    if field.is_required() or field.default in (None, (), "", values.MAX_TIME):
        return ""
    if isinstance(field.default, tuple):
        return f"`{list(field.default)!r}`"
    return f"`{field.default!r}`"


def _fields(model: type[BaseModel]) -> Iterator[str]:
    hints, needed = get_type_hints(model, include_extras=True), _needed(model)
    yield "| name | value | default | meaning |\n|---|---|---|---|"
    for name, field in model.model_fields.items():
        if name == KEY and model in KEYED:
            continue
        least = next((bound.ge for bound in field.metadata if hasattr(bound, "ge")), None)
        meaning = " ".join((field.description or "").split())
        cells = (f"`{name}`", _field_type(hints[name]) + _bounds(least, None), _default(model, name, needed))
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in (*cells, meaning)) + " |"


def _models() -> Iterator[str]:
    for title, model, where in MODELS:
        yield f"### {title}\n\n{where} {_first_paragraph(model)}\n"
        yield "\n".join(_fields(model)) + "\n"


def _first_paragraph(model: type[BaseModel]) -> str:
    text = inspect.cleandoc(model.__doc__ or "").split("\n\n")[0]
    return " ".join(text.replace("``", "`").split())


def examples() -> dict[str, str]:
    """Return the parts of ``etc/jupyterhub_config.py`` by the titles of their comments."""
    parts = re.split(r"^# --- (.+?) -+\n", SITE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {
        title.partition(":")[0]: text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def _configure() -> str:
    lines = inspect.getsource(carme_hub.configure).partition("\n    c.")[2]
    return textwrap.dedent(f"    c.{lines}").strip()


def page() -> str:
    """Return the page's text."""
    shown = examples()
    sections = {
        "The hub": [
            HUB.format(configure=_configure(), example=shown["The hub"], jupyterhub=JUPYTERHUB),
        ],
        "Sessions": [
            SPAWNER.format(example=shown["What people work in"]),
            INHERITED_SPAWNER.format(jupyterhub=JUPYTERHUB),
            *_settings(CarmeSpawner),
        ],
        "What images, mounts, profiles, limits and clusters are made of": [
            f"```python\n{shown['What people may ask for']}\n```\n",
            "Other names than these are a mistake. Where no default stands, what is left out is not set.\n",
            *_models(),
        ],
        "Signing in": [
            AUTHENTICATOR.format(example=shown["Who comes in"]),
            INHERITED_AUTHENTICATOR.format(jupyterhub=JUPYTERHUB, ldap=LDAP),
            *_settings(CarmeAuthenticator),
        ],
    }
    contents, body = [], []
    for title, parts in sections.items():
        contents.append(f"- [{title}](#{_anchor(title)})")
        for part in parts:
            if part.startswith("### "):
                name = part.splitlines()[0].removeprefix("### ")
                contents.append(f"  - [{name}](#{_anchor(name)})")
        body.append(f"## {title}\n\n" + "\n".join(parts))
    return HEAD.format(command=COMMAND, contents="\n".join(contents)) + "\n" + "\n".join(body)


def _anchor(title: str) -> str:
    """Return the address that Markdown gives to a headline."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
