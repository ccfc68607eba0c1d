"""What the start page shows: its cards, and the HTML that comes of them."""

from __future__ import annotations

import re
import time
from pathlib import Path

import jinja2
import pytest
from jupyterhub._data import DATA_FILES_PATH

from carme_hub import texts
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.form import MANY, Problem, SpawnForm, Totals
from carme_hub.spawner.free import Count, Free, Shape
from carme_hub.spawner.request import JobRequest, Person, from_form

TEMPLATES = Path(__file__).parents[2] / "templates"
GPU = {"gpu_type": "a100", "max_gpus_per_node": 4, "max_nodes": 2, "cpus_per_gpu": 2, "memory_per_gpu": "8G"}
CHOICE = {"cpus": 2, "max_cpus": 8, "memory": "512M", "max_memory": "4G"}


def site(*profiles):
    base = {"title": "Base", "path": "/b.sif"}
    return Catalog.load({"base": base, "ml": base | {"title": "ML"}}, {}, list(profiles))


def one(given=None, *, free=None, problems=(), **values):
    """Return the card of a site with one profile."""
    catalog = site({"name": "p", "title": "P", "max_time": "8:00:00"} | values)
    chosen = {"profile": "p", **(given or {})}
    form = SpawnForm.build(catalog, chosen, free=lambda _profile: free, problems=problems)
    return (form.courses + form.profiles)[0]


@pytest.mark.parametrize(
    ("profile", "given", "totals", "memory"),
    [
        (GPU, {"gpus": "4", "nodes": "2"}, Totals(2, 4, 16, 65536), "64 GiB"),
        (
            {"max_gpus_per_node": 4, "cpus": 3, "memory": "1536M"},
            {"gpus": "2"},
            Totals(1, 2, 3, 1536),
            "1.5 GiB",
        ),
        (CHOICE, {"cpus": "4"}, Totals(1, 0, 4, 512), "512 MiB"),
        (CHOICE, {"memory": "3G"}, Totals(1, 0, 2, 3072), "3 GiB"),
        ({"min_nodes": 3, "max_nodes": 3}, {}, Totals(3, 0, 3, None), ""),
        ({"max_gpus_per_node": 4}, {"gpus": "four"}, None, ""),
        (CHOICE, {"memory": "much"}, None, ""),
    ],
)  # fmt: skip
def test_cores_and_memory_follow_what_is_asked_for(profile, given, totals, memory):
    card = one(given, **profile)
    assert card.totals == totals
    assert totals is None or totals.memory_text == memory


def test_time_limits_to_click_are_within_the_bounds():
    assert [text for _, text in one(max_time="2:00:00", min_time="45").times] == ["1:00:00", "2:00:00"]
    week = [minutes for minutes, _ in one(max_time="7-0").times]
    assert week == [120, 240, 480, 1440, 2880, 10080]
    assert one(max_time=20).times == []


def test_the_last_choice_is_open_also_on_the_page_of_another_session():
    catalog = site({"name": "a", "title": "A"}, {"name": "b", "title": "B"})
    last = {"b": {"profile": "b"}, "a": {"profile": "a"}}
    assert [card.open for card in SpawnForm.build(catalog, {}, last).profiles] == [True, False]
    assert [card.open for card in SpawnForm.build(catalog, {"profile": "b"}, last).profiles] == [False, True]
    assert not any(card.open for card in SpawnForm.build(catalog, {}).profiles)


def test_of_many_the_last_choice_stands_first():
    names = [f"p{number}" for number in range(MANY + 1)]
    profiles = [{"name": name, "title": name} for name in names]
    few, many = (SpawnForm.build(site(*profiles[:count]), {"profile": "p5"}) for count in (MANY, MANY + 1))
    assert [card.profile.name for card in few.profiles] == names[:MANY]
    assert [card.profile.name for card in many.profiles] == ["p5", *(name for name in names if name != "p5")]
    assert (few.many, many.many) == (False, True)


def test_a_problem_belongs_to_the_field_of_the_profile_that_was_asked_for():
    catalog = site({"name": "a", "title": "A", "max_nodes": 3}, {"name": "b", "title": "B", "max_nodes": 3})
    problem = Problem("nodes", "7 asked")
    form = SpawnForm.build(catalog, {"profile": "b", "nodes": "7"}, problems=(problem,))
    a, b = form.profiles
    assert (a.error("nodes"), b.error("nodes"), b.error("time")) == ("", "7 asked", "")
    assert form.place_of(problem) == "profile-b-nodes"
    for field in ("gpus", "profile", "", "account"):  # no field of this page
        form = SpawnForm.build(catalog, {"profile": "b"}, problems=(Problem(field, "no"),))
        assert form.place_of(form.problems[0]) == ""
    assert SpawnForm.build(catalog, {}, problems=(problem,)).place_of(problem) == ""
    assert one({"cpus": "9"}, problems=(Problem("cpus", "9 asked"),), max_cpus=4).advanced_used


def test_what_a_course_would_start_is_its_own_whatever_was_chosen_before():
    course = {"material": "/m", "notebook": "a.ipynb"}
    card = one({"time": "30", "nodes": "2"}, course=course, max_nodes=2)
    assert (card.minutes, card.totals.nodes, card.shown_fields) == (480, 1, frozenset())


# --- The HTML ---


@pytest.fixture(scope="module")
def templates():
    made = jinja2.Environment(
        autoescape=True, loader=jinja2.FileSystemLoader(TEMPLATES), undefined=jinja2.StrictUndefined
    )
    texts.install(made)
    return made


@pytest.fixture
def html(templates):
    def render(card, shown=True):
        name = "spawn_course.html" if card.profile.course else "spawn_profile.html"
        return templates.get_template(name).render(card=card, shown=shown, form_url="/hub/spawn", xsrf="x")

    return render


def words(page):
    """Return what people read of a page."""
    plain = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page)).strip()
    return plain.replace("\N{MULTIPLICATION SIGN}", "x")


def figures(*counts, largest=None, usual=True, closed=False, age=0.0):
    return Free(counts, largest, usual, closed, time.monotonic() - age)


def test_a_card_says_what_it_gives_and_what_is_free(html):
    free = figures(Count("a100", 3, 12, 4), largest=Shape(2, 1, "a100"), usual=False)
    told = words(html(one({"gpus": "4", "nodes": "2"}, free=free, description="For models.", **GPU)))
    assert "For models." in told
    assert "up to 4 x a100 · on up to 2 nodes · 2 cores per GPU · 8 GiB per GPU · up to 8 hours" in told
    assert "3 of 12 a100 free now (4 out of service)" in told
    assert "Would have to wait" in told
    assert "The largest that fits now: 2 nodes with 1 x a100 each." in told
    assert "2 nodes x 4 GPUs 16 cores, 64 GiB in all" in told


def test_an_old_picture_is_shown_with_its_age(html):
    told = words(html(one(free=figures(Count("", 5, 8), largest=Shape(1, cpus=1), age=200))))
    assert "5 of 8 cores free Could start at once · 4 minutes ago" in told
    assert "free now" not in told


def test_where_nothing_starts_the_card_says_so(html):
    assert "Nothing starts here at the moment" in words(html(one(free=figures(usual=False, closed=True))))
    assert "free" not in words(html(one()))


def test_bounds_stand_beside_the_field(html):
    page = html(one(min_time="30", max_cpus=4, memory="1G", max_memory="8G", max_nodes=3))
    told = words(page)
    assert "Nodes 1\N{EN DASH}3" in told
    assert "Time limit 30 minutes to 8 hours" in told
    assert "Cores per node 1\N{EN DASH}4 Memory per node up to 8G" in told
    assert re.search(r'aria-describedby="profile-p-nodes-help profile-p-nodes-error"', page)


def test_a_refused_field_is_marked_described_and_the_first_to_have_the_focus(html):
    page = html(one({"nodes": "<9>"}, problems=(Problem("nodes", "<9> asked"),), max_nodes=3))
    (field,) = re.findall(r'<input [^>]*name="nodes"[^>]*>', page)
    assert 'aria-invalid="true"' in field
    assert "autofocus" in field
    assert "is-invalid" in field
    assert 'value="&lt;9&gt;"' in field
    assert 'id="profile-p-nodes-error" data-error="nodes">&lt;9&gt; asked</div>' in page
    assert page.count("autofocus") == 1


def test_nothing_of_the_description_becomes_html(html):
    page = html(
        one(title="<b>P</b>", description='"><script>', gpu_types=["a100", "h100"], max_gpus_per_node=2)
    )
    assert "<script" not in page
    assert "<b>" not in page


def test_a_course_is_one_button(html):
    course = {"material": "/m", "notebook": "a.ipynb"}
    page = html(one(title="ML 101", course=course, cpus=2, memory="4G", free=figures(Count("", 5, 8))))
    assert "2 cores · 4 GiB · 8 hours" in words(page)
    assert "Start ML 101" in words(page)
    assert re.findall(r"<(?:input|select)[^>]* name=\"(\w+)\"", page) == ["_xsrf", "profile"]


STOCK = Path(DATA_FILES_PATH) / "templates"


def test_f6_jupyterhubs_own_page_shows_fields_that_can_be_sent():
    """Its template marks what it is handed as safe: everything a site or a person wrote has to be escaped."""
    catalog = site(
        {"name": "g", "title": "<b>GPU</b>", "description": "x & y", **GPU, "account": ["", "other"]},
        {"name": "c.1", "title": "CPU", **CHOICE},
    )
    problem = Problem("nodes", "<9> asked.")
    form = SpawnForm.build(catalog, {"profile": "g", "nodes": '"><script>'}, problems=(problem,))
    engine = jinja2.Environment(loader=jinja2.FileSystemLoader(STOCK), autoescape=True)
    page = engine.from_string("{{ form | safe }}").render(form=form)
    assert "<b>" not in page
    assert "<script>" not in page
    assert "&lt;b&gt;GPU&lt;/b&gt;" in page
    assert "&lt;9&gt; asked." in page
    assert page.count('type="radio"') == 2
    assert page.count(" checked") == 1
    sent = {name: [value] for name, value in re.findall(r'name="([^"]+)" value="([^"]*)"', page)}
    sent |= {"profile": ["c.1"], "c.1/image": ["ml"], "c.1/cpus": ["4"], "g/nodes": ["99"]}
    request = JobRequest.parse(from_form(sent), catalog, Person("rosa"))
    assert (request.profile.name, request.image.name, request.cpus) == ("c.1", "ml", 4)


@pytest.mark.parametrize(
    ("form", "options"),
    [
        ({"profile": ["a"], "a/gpus": ["2"], "b/gpus": ["9"]}, {"profile": "a", "gpus": "2"}),
        ({"profile": ["a"], "a/": ["2"]}, {"profile": "a", "": "2"}),
        ({"a/gpus": ["2"]}, {}),
        ({"profile": [], "/gpus": ["2"]}, {"profile": [], "gpus": "2"}),
        ({"profile": ["a", "b"], "a/gpus": ["2"]}, {"profile": ["a", "b"], "gpus": "2"}),
    ],
)
def test_f6_of_one_form_for_all_profiles_the_chosen_ones_fields_count(form, options):
    assert from_form(form) == options
