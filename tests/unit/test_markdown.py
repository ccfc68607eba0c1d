"""Announcements: an admin's Markdown becomes HTML that cannot do anything."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from carme_hub.service.markdown import ATTRIBUTES, LONGEST, TAGS, render


class Seen(HTMLParser):
    """What a browser would make of HTML: tags and their attributes."""

    def __init__(self, html):
        super().__init__()
        self.tags = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def assert_harmless(html):
    for tag, attributes in Seen(html).tags:
        assert tag in TAGS
        assert attributes.keys() <= ATTRIBUTES.get(tag, set()) | ({"rel"} if tag == "a" else set())
        scheme = re.match(r"\s*([a-z][a-z0-9+.-]*):", attributes.get("href") or "", re.IGNORECASE)
        assert scheme is None or scheme[1].lower() in {"http", "https", "mailto"}


def test_what_admins_write_is_shown():
    html = render("**Maintenance** on *Friday*, see [the plan](https://example.org/plan):\n\n- gpu\n- cpu\n")
    assert "<strong>Maintenance</strong> on <em>Friday</em>" in html
    assert '<a href="https://example.org/plan" rel="noopener noreferrer">the plan</a>' in html
    assert html.count("<li>") == 2
    assert "<table>" in render("| a | b |\n|---|---|\n| 1 | 2 |")
    assert "<s>old</s>" in render("~~old~~")


def test_headings_are_below_those_of_the_page():
    assert render("# One\n\n###### Six") == "<h3>One</h3>\n<h6>Six</h6>\n"


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<a href='javascript:alert(1)'>x</a>",
        "[x](javascript:alert(1))",
        "[x](JaVaScRiPt:alert(1))",
        "[x](java\nscript:alert(1))",
        "[x](&#106;avascript:alert(1))",
        "[x](\\javascript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
        "[x](vbscript:msgbox)",
        "[x](file:///etc/passwd)",
        "<javascript:alert(1)>",
        '[x](https://a.example "\\" onmouseover=alert(1) y=\\"")',
        "[x]: javascript:alert(1)\n\n[x]",
        "![x](https://a.example/pixel.png)",
        "![x](data:image/svg+xml;base64,PHN2Zy8+)",
        "<svg><script>alert(1)</script></svg>",
        "<style>body{display:none}</style>",
        "<iframe src=https://a.example></iframe>",
        "<form action=https://a.example><input name=password></form>",
        "<!-- --!><script>alert(1)</script> -->",
        "<math><mtext><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=alert(1)&gt;'>",
        "```html\n</code></pre><script>alert(1)</script>\n```",
        '```"><script>alert(1)</script>\nx\n```',
        "| <script>x</script> |\n|---|\n| [y](javascript:1) |",
        '[x](https://a.example/"onclick="alert(1))',
        "{{ 7 * 7 }} {% raw %}",
        "\x00<scr\x00ipt>alert(1)</script>",
    ],
)
def test_nothing_hostile_comes_through(text):
    html = render(text)
    assert_harmless(html)
    assert "<script" not in html.lower()
    assert "<img" not in html.lower()


@given(st.text(alphabet=st.sampled_from("<>\"'`[]()!:/\\&;#*_~|-=\n ajvscriptdonlefh"), max_size=80))
def test_no_text_makes_anything_but_what_is_allowed(text):
    assert_harmless(render(text))


def test_a_text_without_an_end_ends():
    assert len(render("x" * (LONGEST + 1000))) < LONGEST + 100
    assert_harmless(render("[" * LONGEST))
    assert_harmless(render("> " * LONGEST))
    assert_harmless(render("*a_" * LONGEST))
