"""The pages' texts in another language: gettext for templates.

Switched on by naming `TextsExtension` in ``JupyterHub.jinja_environment_options``; a service calls `install`.
In a template, ``{{ _("Sign in") }}`` and ``{% trans name=user.name %}Session of {{ name }}{% endtrans %}``
are texts; ``{{ ngettext("%(num)s node", "%(num)s nodes", nodes) }}`` has a plural. What is filled in is
escaped; the text itself is the template's and may hold HTML. A ``%`` in ``_("...")`` is written ``%%``.

The language is that of the hub's process, as for every program that uses gettext: the first for which there
is a translation of those that LANGUAGE, LC_ALL, LC_MESSAGES or LANG name. Without any, texts are as they are
written.
"""

from __future__ import annotations

import gettext
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2.ext import InternationalizationExtension

if TYPE_CHECKING:
    from jinja2 import Environment

DOMAIN = "carme-hub"
FOLDER = Path(__file__).parent / "locale"  # LANGUAGE/LC_MESSAGES/carme-hub.mo


def translations() -> gettext.NullTranslations:
    """Return the texts in this process's language; as they are written where there is no translation."""
    return gettext.translation(DOMAIN, FOLDER, fallback=True)


class TextsExtension(InternationalizationExtension):
    """Give templates ``_``, ``gettext``, ``ngettext`` and ``{% trans %}``."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        # Line breaks in a {% trans %} are for whoever reads the template, and no part of the text.
        environment.policies["ext.i18n.trimmed"] = True
        # The new style escapes what is filled in where the page does.
        self._install(translations(), newstyle=True)


def install(environment: Environment) -> None:
    """Give the templates of an environment their texts."""
    environment.add_extension(TextsExtension)
