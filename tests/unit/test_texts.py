"""The pages' texts: each can be translated, and a translation of them is used."""

from __future__ import annotations

import gettext
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import jinja2
import pytest
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from jinja2 import nodes

from carme_hub import texts

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "templates"
# Being rewritten.
NOT_YET: set[str] = set()
PAGES = [file for file in sorted(TEMPLATES.glob("*.html")) if file.stem not in NOT_YET]
# Attributes that people read or hear.
READ = {"alt", "aria-label", "aria-description", "content", "placeholder", "title"}
# Programs, and what is typed into them.
UNREAD = {"code", "script", "style"}
TEXT_FUNCTIONS = {"_", "gettext", "ngettext", "pgettext", "npgettext"}
FILLED_IN = "\0"
LETTERS = re.compile(r"[^\W\d_]{2}")
SAME_EVERYWHERE = re.compile(r"(carme-hub|GPU|UTC|[^\w]|_)+")


def environment(*folders: Path) -> jinja2.Environment:
    made = jinja2.Environment(autoescape=True, loader=jinja2.FileSystemLoader(folders))
    texts.install(made)
    return made


def pieces(node: nodes.Node) -> Iterator[str]:
    """What an expression puts into the page as it is written in the template, and not through gettext."""
    match node:
        case nodes.TemplateData(data=data):
            yield data
        case nodes.Const(value=str(value)):
            yield value
        case nodes.CondExpr():
            yield from (piece for part in (node.expr1, node.expr2) if part for piece in pieces(part))
        case nodes.Or() | nodes.And() | nodes.Add():
            yield from (piece for part in (node.left, node.right) for piece in pieces(part))
        case nodes.Concat():
            yield from (piece for part in node.nodes for piece in pieces(part))
        case nodes.Filter():
            instead = node.args if node.name in {"d", "default"} else []
            yield from (piece for part in (node.node, *instead) if part for piece in pieces(part))
        case _:
            yield FILLED_IN


class Reader(HTMLParser):
    """What a page says, to the eye and to the ear."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self.silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in UNREAD
        named = dict(attrs)
        read = READ | ({"value"} if tag == "input" and named.get("type") in {"submit", "button"} else set())
        if tag == "meta":
            read = set()
        self.said += [value for name, value in attrs if name in read and value]

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in UNREAD

    def handle_data(self, data: str) -> None:
        if not self.silent:
            self.said.append(data)


def untranslatable(source: str) -> list[str]:
    """Return the words of a template that no translation would change."""
    tree = environment().parse(source)
    reader = Reader()
    # What fills an attribute that nobody reads.
    addresses = {
        id(output)
        for holder in tree.find_all((nodes.Block, nodes.Macro))
        if isinstance(holder, nodes.Block | nodes.Macro)
        and holder.name in {"action", "address", "error", "invalid"}
        for output in holder.find_all(nodes.Output)
    }
    for output in tree.find_all(nodes.Output):
        for part in output.nodes if id(output) not in addresses else ():
            reader.feed("".join(pieces(part)))
    reader.close()
    said = list(reader.said)
    # Words that go to the page in a variable, or through a macro, begin with a capital.
    for holder in tree.find_all((nodes.Assign, nodes.For, nodes.Call, nodes.CallBlock)):
        if isinstance(holder, nodes.Call) and getattr(holder.node, "name", "") in TEXT_FUNCTIONS:
            continue
        starts = (
            [holder.node]
            if isinstance(holder, nodes.Assign)
            else [holder.iter]
            if isinstance(holder, nodes.For)
            else [*holder.args, *(keyword.value for keyword in holder.kwargs)]
            if isinstance(holder, nodes.Call)
            else []
        )
        for start in starts:
            said += [text for text in constants(start) if re.match(r"[A-Z][a-z]", text)]
    said = [" ".join(text.split()) for text in said]
    return [text for text in said if LETTERS.search(text) and not SAME_EVERYWHERE.fullmatch(text)]


def constants(node: nodes.Node) -> Iterator[str]:
    """The strings in an expression, but for those that are texts already."""
    if isinstance(node, nodes.Call) and getattr(node.node, "name", "") in TEXT_FUNCTIONS:
        return
    if isinstance(node, nodes.Const) and isinstance(node.value, str):
        yield node.value
    for child in node.iter_child_nodes():
        yield from constants(child)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("<p>Sign in</p>", ["Sign in"]),
        ('<p title="Go">{{ _("Sign in") }}</p>', ["Go"]),
        ('<input type="submit" value="Go" /><input type="hidden" value="Go" />', ["Go"]),
        ('{{ "older" if page else _("newer") }}', ["older"]),
        ('<p class="{{ "text-danger" if bad else "text-success" }}">{{ name }}</p>', []),
        ('{{ button("Continue") }}{{ button(_("Back")) }}', ["Continue"]),
        ('{% set label = "Present password" %}{% set other = _("Password") %}', ["Present password"]),
        ('{% for title in ["Name", _("State")] %}{{ title }}{% endfor %}', ["Name"]),
        ("{% trans %}Sign <b>in</b>{% endtrans %}<script>let x = 'Go';</script>", []),
        ("{% if a %}<p>One</p>{% else %}<p>{{ a }} two</p>{% endif %}", ["One", "two"]),
    ],
)
def test_words_that_no_translation_changes_are_found(source, words):
    assert [text.strip(f"{FILLED_IN} ") for text in untranslatable(source)] == words


@pytest.mark.parametrize("template", PAGES, ids=lambda file: file.stem)
def test_every_word_of_a_template_can_be_translated(template):
    assert untranslatable(template.read_text()) == []


@pytest.mark.parametrize("template", PAGES, ids=lambda file: file.stem)
def test_a_text_opens_no_element_that_it_does_not_close(template):
    """A translation may turn the words around, and must not tear the page."""
    for _line, _function, message in environment().extract_translations(template.read_text()):
        for text in [message] if isinstance(message, str) else message:
            opened: list[str] = []
            for closing, name in re.findall(r"<(/?)(\w+)", text or ""):
                if closing:
                    assert opened, text
                    assert opened.pop() == name, text
                elif name not in {"br", "hr", "img", "input"}:
                    opened.append(name)
            assert not opened, text


@pytest.mark.parametrize("script", sorted((TEMPLATES / "static").glob("*.js")), ids=lambda file: file.name)
def test_no_script_has_sentences_of_its_own(script):
    code = re.sub(r"^\s*(//|/?\*).*$|(?<=[\s;{,])// .*$", "", script.read_text(), flags=re.MULTILINE)
    # What a program says to another or to its developers.
    code = re.sub(r"(new Error|console\.\w+)\(.*", "", code)
    quoted = re.findall(r'"([^"\n]*)"|`([^`]*)`', code)
    sentences = [text for pair in quoted for text in pair if re.search(r"[A-Z]\w* \w+ \w+", text)]
    assert sentences == []


class Bold(gettext.NullTranslations):
    """A language in which every text is markup."""

    def gettext(self, message: str) -> str:
        return f"<b>{message}</b>"


def test_what_is_filled_in_is_escaped_and_the_text_is_not(monkeypatch):
    monkeypatch.setattr(texts, "translations", Bold)
    page = environment().from_string('{{ _("50 %%") }} {% trans %}{{ name }} 50 %{% endtrans %}')
    assert page.render(name="<i>") == "<b>50 %</b> <b>&lt;i&gt; 50 %</b>"


def test_the_language_is_that_of_the_process(monkeypatch, tmp_path):
    """From the templates to a catalogue, from the catalogue to the page."""
    template = tmp_path / "catalogue.pot"
    words = [
        sys.executable,
        "-m",
        "babel.messages.frontend",
        "--quiet",
        "extract",
        "--mapping-file=babel.cfg",
    ]
    subprocess.run([*words, f"--output-file={template}", "templates"], cwd=ROOT, check=True, timeout=120)
    with template.open("rb") as file:
        catalogue = read_po(file, locale="de")
    catalogue["Sign in"].string = "Anmelden"
    catalogue["Valid for %(hours)s hour, for one use."].string = ("Eine Stunde", "%(hours)s Stunden")
    folder = tmp_path / "locale" / "de" / "LC_MESSAGES"
    folder.mkdir(parents=True)
    with (folder / f"{texts.DOMAIN}.mo").open("wb") as file:
        write_mo(file, catalogue)
    monkeypatch.setattr(texts, "FOLDER", tmp_path / "locale")
    source = (
        '{{ _("Sign in") }}, {{ _("Stop") }}, '
        "{% trans hours=hours %}\n Valid for {{ hours }} hour, for one use.\n{% pluralize %}\n"
        " Valid for {{ hours }} hours, for one use.\n{% endtrans %}"
    )

    monkeypatch.setenv("LANGUAGE", "de_DE.UTF-8")
    assert environment().from_string(source).render(hours=5) == "Anmelden, Stop, 5 Stunden"
    monkeypatch.setenv("LANGUAGE", "fr:en")
    assert (
        environment().from_string(source).render(hours=1) == "Sign in, Stop, Valid for 1 hour, for one use."
    )
