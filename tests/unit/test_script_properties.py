"""No string changes what a batch script does: neither one that a person can send nor one of the site.

The script is read back: its directives as sbatch reads them, its commands as a shell reads them. Both are
compared with the script for harmless values: it has to be the same script, with these values in their places.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from carme_hub.spawner import container, course, script
from carme_hub.spawner.catalog import Catalog, CatalogError
from carme_hub.spawner.request import FIELDS, JobRequest, Person, RequestError

REPORTER = "print('reporter')\n"
PLAN = script.Plan("/home/x", "carme:0:x/", ("jupyterhub-singleuser",), REPORTER)
DOCUMENT = re.compile(r"<<'([A-Z_]+)'.*?\n(.*?\n)\1\n", re.DOTALL)

# What has ended quotes, lines, options, arguments or documents somewhere before.
NASTY = (
    *(
        "'",
        '"',
        "\\",
        "`",
        "$(id)",
        "${IFS}",
        "\n",
        "\r",
        "\0",
        "\u2028",
        "\x85",
        "#",
        "\n#SBATCH --uid=0\n",
        ";",
    ),
    *(
        "&",
        "|",
        ">",
        "<",
        "(",
        ")",
        "{",
        "}",
        "*",
        "?",
        "[",
        "]",
        "~",
        "!",
        "=",
        "--wrap=id",
        " ",
        "\t",
        ",",
        ":",
    ),
    *(
        "%s",
        "%",
        "{0}",
        "{",
        "é",
        "\uff12",
        "\ud800",
        "../",
        "//",
        f"\n{script._END}\n",
        "\nCARME_FILE_ENDS_HERE\n",
    ),
)
nasty = st.lists(st.one_of(st.sampled_from(NASTY), st.text(max_size=3)), max_size=4).map("".join)
path = st.tuples(st.sampled_from(["/", "/srv/", ""]), nasty, st.sampled_from(["", "x", "/y"])).map("".join)


def sbatch_arguments(text: str) -> list[str]:
    """Read the options of a batch script as sbatch does.

    Lines with ``#SBATCH`` up to the first that is neither empty nor a comment; words separated by white
    space; quotes and backslashes as in a shell; the rest of a line behind an unquoted "#" is a comment
    (src/sbatch/opt.c, _opt_batch_script and _get_argument).
    """
    words: list[str] = []
    for line in text.split("\n"):
        if line.startswith("#SBATCH"):
            words += shlex.split(line.removeprefix("#SBATCH"), comments=True)
        elif line.strip() and not line.lstrip().startswith("#"):
            break
    return words


def documents(text: str) -> list[str]:
    """Return the here-documents of a script."""
    return [found[2] for found in DOCUMENT.finditer(text)]


def shell_words(text: str) -> list[str]:
    """Return the words and operators of a script, without its here-documents and comments."""
    code = "\n".join(line for line in DOCUMENT.sub("\n", text).split("\n") if not line.startswith("#"))
    reader = shlex.shlex(code, posix=True, punctuation_chars=";&|<>()\n")
    reader.whitespace = " \t\r"
    reader.whitespace_split = True
    reader.commenters = ""
    return list(reader)


def bash(*words: str, given: str = "") -> str:
    """Run bash and return what it printed; it must have nothing to complain about."""
    done = subprocess.run(
        ["bash", *words],
        input=given.encode("utf-8", "surrogateescape"),
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.decode("utf-8", "surrogateescape")


def expected_options(request: JobRequest, mark: str) -> list[str]:
    """Return the options that sbatch has to find."""
    where = ("partition", "account", "qos", "reservation", "constraint")
    return [
        f"--job-name=carme-{request.profile.name}",
        f"--comment={mark}",
        *(f"--{name}={getattr(request, name)}" for name in where if getattr(request, name)),
        f"--nodes={request.nodes}",
        f"--ntasks-per-node={request.tasks}",
        f"--cpus-per-task={request.cpus // request.tasks}",
        f"--time={request.time}",
        "--chdir=/",
        *([f"--mem={request.memory}M"] if request.memory is not None else []),
        *([f"--gres={request.gres}:{request.gpus}"] if request.gres else []),
        *("--output=/dev/null", "--error=/dev/null", "--export=ALL", "--propagate=NONE", "--no-requeue"),
    ]


def same_script(text: str, reference: str, places: dict[str, str]) -> None:
    """Compare a script with the one for harmless values.

    Parameters
    ----------
    places
        Harmless value -> the value that has to be in its place.
    """
    assert documents(text) == documents(reference)
    pattern = re.compile("|".join(map(re.escape, sorted(places, key=len, reverse=True))) or "(?!)")
    wanted = [pattern.sub(lambda found: places[found[0]], word) for word in shell_words(reference)]
    assert shell_words(text) == wanted
    bash("-n", given=text)


def container_words(text: str) -> list[str]:
    """Let bash itself say what the words of the container's command are."""
    (line,) = [line for line in text.split("\n") if line.endswith(f" <<'{script._END}' {{hold}}<&- &")]
    command = line.removesuffix(f" <<'{script._END}' {{hold}}<&- &")
    return bash("-s", given=f"printf '%s\\0' {command}\n").split("\0")[:-1]


# --- What a person can send ---

MANY = {
    "images": {
        "base": {"title": "x", "path": "/i/base.sif", "mounts": ["data"]},
        "ml": {"title": "x", "path": "/i/ml.sif"},
    },
    "mounts": {"data": {"source": "/data", "target": "/data", "filesystem": "nfs"}},
    "profiles": [
        {
            "name": "open",
            "title": "x",
            "gpu_types": ["a100", "1g.10gb", "shard"],
            "min_gpus_per_node": 0,
            "max_gpus_per_node": 4,
            "max_nodes": 4,
            "max_tasks_per_node": 4,
            "max_cpus": 8,
            "memory": "1G",
            "max_memory": "8G",
            "max_time": "1-0",
            "constraint": ["", "a&b", "x|[y*2]"],
            "reservation": ["", "r1"],
        },
        {"name": "closed", "title": "x", "max_time": "60", "account": "a", "qos": ["q", "p"], "course": None},
    ],
}
CATALOG = Catalog.load(MANY["images"], MANY["mounts"], MANY["profiles"])
GOOD = {
    "profile": ["open", "closed"],
    "image": ["base", "ml"],
    "gpus": [0, 1, "4"],
    "gpu_type": ["a100", "1g.10gb", "shard"],
    "nodes": [1, "2"],
    "tasks": [1, "4"],
    "cpus": [1, "8"],
    "memory": ["1G", "500M", 2048],
    "time": ["1:00:00", 60, "90"],
    "account": ["mine", "a", "x.y-z"],
    "qos": ["q", "p", "normal"],
    "reservation": ["r1"],
    "constraint": ["a&b", "x|[y*2]"],
}
assert set(GOOD) == set(FIELDS)


def value_of(name: str) -> st.SearchStrategy[object]:
    """Return values of an option: mostly good ones, ones with something nasty in them, and others."""
    good = st.sampled_from(GOOD[name])
    return st.one_of(
        good, good, st.tuples(nasty, good.map(str), nasty).map("".join), nasty, st.integers(), st.none()
    )


options = st.fixed_dictionaries({}, optional={name: value_of(name) for name in FIELDS})
shapes: dict[tuple[object, ...], str] = {}


@given(options)
@example({"profile": "open", "account": "a\n#SBATCH --uid=0"})
@example(
    {
        "profile": "open",
        "constraint": "x|[y*2]",
        "reservation": "r1",
        "gpus": 4,
        "gpu_type": "shard",
        "nodes": 2,
    }
)
def test_no_options_change_the_script(chosen):
    try:
        request = JobRequest.parse({"profile": "open", **chosen}, CATALOG, Person("rosa"))
    except RequestError:
        return
    text = script.render(request, PLAN)
    assert sbatch_arguments(text) == expected_options(request, PLAN.mark)
    # The commands depend on nothing but the image, on whether there are GPUs, and on one node or several.
    shape = (request.image.name, bool(request.gpus), request.nodes > 1)
    code = text.partition("\nset -euo pipefail\n")[2]
    assert shapes.setdefault(shape, code) == code
    assert container_words(text)[:-8] == container.command(request, PLAN.home)[:-1]


def test_good_options_are_taken():
    """What would be the test above worth if everything was refused?"""
    for name, values in GOOD.items():
        for value in values:
            profile = "closed" if value in ("closed", "p") else "open"
            asked = {"profile": profile, name: value, **({"gpus": 1} if name == "gpu_type" else {})}
            assert JobRequest.parse(asked, CATALOG, Person("rosa")).options()


@given(st.text(max_size=40) | nasty, st.text(max_size=40) | nasty)
def test_no_name_of_a_person_or_session_changes_the_script(user, session):
    try:
        mark = f"carme:0:{quote(user, safe='')}/{quote(session, safe='')}"
    except UnicodeEncodeError:
        return
    request = JobRequest.parse({"profile": "open"}, CATALOG, Person("rosa"))
    try:
        text = script.render(request, script.Plan("/home/x", mark, PLAN.command, REPORTER))
        assert sbatch_arguments(text) == expected_options(request, mark)
        same_script(text, script.render(request, PLAN), {})
    except script.ScriptError:
        pytest.fail("a quoted name can always be written")
    # A name that somebody forgot to quote is refused, or is one word.
    raw = f"carme:0:{user}/{session}"
    try:
        text = script.render(request, script.Plan("/home/x", raw, PLAN.command, REPORTER))
    except script.ScriptError:
        return
    assert sbatch_arguments(text) == expected_options(request, raw)


@given(path)
@example("/home/o'brien")
@example("/home/$(id)/`id`")
@example("/home/x\n#SBATCH --uid=0")
def test_no_home_changes_the_script(home):
    request = site("/i", "/s", "/t", "/m")  # a course: its files go to the home
    try:
        text = script.render(request, script.Plan(home, PLAN.mark, PLAN.command, REPORTER))
    except ValueError:
        return
    assume(home.isprintable())
    plan = script.Plan("/PLACE/OF/HOME", PLAN.mark, PLAN.command, REPORTER)
    same_script(text, script.render(request, plan), {"/PLACE/OF/HOME": home})
    assert sbatch_arguments(text) == expected_options(request, PLAN.mark)
    assert f"{home}:{home}" in container_words(text)


# --- What a site can write ---

PLACES = (
    "/PLACE/OF/IMAGE",
    "/PLACE/OF/SOURCE",
    "/PLACE/OF/TARGET",
    "/PLACE/OF/MATERIAL",
    "/PLACE/OF/APPTAINER",
)


def site(image, source, target, material, filesystem="nfs", **profile):
    """Return a request on a site with these values."""
    catalog = Catalog.load(
        {"base": {"title": "x", "path": image, "mounts": ["data"]}},
        {"data": {"source": source, "target": target, "filesystem": filesystem}},
        [
            {
                "name": "p",
                "title": "x",
                "max_time": "1",
                "course": {"material": material, "notebook": "x.ipynb"},
                "max_gpus_per_node": 1,
                **profile,
            }
        ],
    )
    return JobRequest.parse({}, catalog, Person("x"))


@given(st.tuples(path, path, path, path, path), st.lists(nasty, max_size=3))
@example(("/a b", "/it's", "/$HOME", "/`id`", "/;id"), ["$(id)", "a'b", ""])
def test_no_path_of_the_site_changes_the_script(values, words):
    values = tuple(value if value.isprintable() else "/fine" for value in values)
    words = tuple(word for word in words if word.isprintable() or word == "")
    *paths, apptainer = values
    assume(apptainer.strip())
    assume(paths[1] != paths[2])  # one that keeps its place is named once more
    try:
        request = site(*paths)
    except CatalogError:
        return
    text = script.render(request, script.Plan("/home/x", "carme:x", ("server", *words), REPORTER, apptainer))
    harmless = site(*PLACES[:4])
    fillers = tuple(f"WORD{number}" for number in range(len(words)))
    plan = script.Plan("/home/x", "carme:x", ("server", *fillers), REPORTER, PLACES[4])
    same_script(
        text, script.render(harmless, plan), dict(zip((*PLACES, *fillers), (*values, *words), strict=True))
    )
    assert container_words(text) == [
        *container.command(request, "/home/x", apptainer),
        *("/bin/sh", "/.carme/begin", "python3", "-I", "-S", "-", "server", *words),
    ]


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(["partition", "account", "qos", "constraint", "name"], nasty)
    ),
    nasty,
)
@example({"constraint": "a&b|[c*2]", "name": "x-1"}, "fuse.x")
def test_no_word_of_the_site_changes_the_script(profile, filesystem):
    fixed = {key: value for key, value in profile.items() if value}
    try:
        request = site("/i", "/s", "/t", "/m", filesystem or "nfs", **fixed)
    except CatalogError:
        return
    text = script.render(request, PLAN)
    assert sbatch_arguments(text) == expected_options(request, PLAN.mark)
    reference = script.render(site("/i", "/s", "/t", "/m", "FILESYSTEM", name="PROFILE"), PLAN)
    folder = course.folder("", "PROFILE")
    same_script(
        text,
        reference,
        {folder: course.folder("", fixed.get("name", "p")), "FILESYSTEM": filesystem or "nfs"},
    )


def test_a_script_that_is_changed_is_told_apart(monkeypatch):
    """The tests above see it when quoting is missing."""
    request = site("/i", "/s", "/t", "/m")
    reference = script.render(site("/i", "/s", "/t", PLACES[3]), PLAN)
    monkeypatch.setattr(shlex, "quote", lambda word: f'"{word}"')
    for material in ('/a";id;"', '/a" "b', "/$(id)"):
        hostile = request.profile.model_copy(
            update={"course": request.profile.course.model_copy(update={"material": material})}
        )
        text = script.render(JobRequest(**{**vars(request), "profile": hostile}), PLAN)
        if material.startswith("/$"):
            continue  # one word to shlex, but not to bash: container_words() is for that
        with pytest.raises(AssertionError):
            same_script(text, reference, {PLACES[3]: material})
    assert sbatch_arguments('#SBATCH --a="b" --uid=0 # x\n#SBATCH --c\n\nrun\n#SBATCH --d') == [
        "--a=b",
        "--uid=0",
        "--c",
    ]
