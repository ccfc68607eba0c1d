import dataclasses
import json

import pytest

from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.form import SpawnForm
from carme_hub.spawner.request import JobRequest, Person, RequestError, from_form, harmless


def test_everything_asked_for(ask):
    request = ask(
        {"profile": "gpu", "image": "ml", "gpus": "3", "gpu_type": "h100", "nodes": 2, "time": "1:00:00"}
    )
    assert (request.gpus, request.gpu_type, request.nodes, request.time) == (3, "h100", 2, 60)
    assert (request.cpus, request.memory) == (6, 6144)
    assert [mount.target for mount in request.mounts] == ["/data", "/etc/slurm", "/run/munge"]


def test_the_only_profile_and_its_defaults(ask):
    request = ask({})
    assert (request.profile.name, request.image.name, request.gpus, request.gpu_type) == (
        "gpu",
        "base",
        1,
        "a100",
    )
    assert (request.nodes, request.time) == (1, 120)


def test_a_choice_between_profiles_has_to_be_made(ask):
    with pytest.raises(RequestError, match=r"\(profile\).*gpu, ml101"):
        ask({}, Person("both", frozenset({"researchers", "ml101"})))


def test_a_person_without_any_profile(ask):
    with pytest.raises(RequestError, match="no profile that you may use"):
        ask({}, Person("nobody"))


def test_options_parse_to_the_same_request(ask):
    request = ask({"image": "ml", "gpus": 2, "gpu_type": "h100", "nodes": 2, "time": "90"})
    assert ask(json.loads(json.dumps(request.options()))) == request


def test_a_request_cannot_be_changed(ask):
    with pytest.raises(dataclasses.FrozenInstanceError):
        ask({}).gpus = 8


def fixed(**values):
    profile = {"name": "p", "title": "P", "max_time": "4:00:00"} | values
    return Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, [profile])


def test_a_profile_fixes_nodes_and_time():
    catalog = fixed(min_nodes=2, max_nodes=2, min_time="4:00:00")
    request = JobRequest.parse({}, catalog, Person("rosa"))
    assert (request.nodes, request.time) == (2, 240)
    assert JobRequest.parse(request.options(), catalog, Person("rosa")) == request
    with pytest.raises(RequestError, match=r"\(nodes\): 1 asked, only 2 allowed"):
        JobRequest.parse({"nodes": 1}, catalog, Person("rosa"))
    with pytest.raises(RequestError, match=r"\(time\): 1:00:00 asked, only 4:00:00 allowed"):
        JobRequest.parse({"time": 60}, catalog, Person("rosa"))
    assert SpawnForm.build(catalog, {}).profiles[0].totals.nodes == 2


def test_a_profile_bounds_nodes_and_time_and_says_what_the_form_begins_with():
    catalog = fixed(min_nodes=2, max_nodes=8, default_nodes=4, min_time="30", default_time="60")
    request = JobRequest.parse({}, catalog, Person("rosa"))
    assert (request.nodes, request.time) == (4, 60)
    assert SpawnForm.build(catalog, {}).profiles[0].values["nodes"] == "4"
    with pytest.raises(RequestError, match=r"\(nodes\): 1 asked, 2 to 8 allowed"):
        JobRequest.parse({"nodes": 1}, catalog, Person("rosa"))
    with pytest.raises(RequestError, match=r"\(time\): 0:29:00 asked, 0:30:00 to 4:00:00 allowed"):
        JobRequest.parse({"time": 29}, catalog, Person("rosa"))


HOSTILE = [
    (None, ""),
    ([], ""),
    (["gpu"], ""),
    ("gpu", ""),
    (7, ""),
    ({"partition": "cpu\n#SBATCH --wrap=id"}, "'partition"),
    ({"prologue": "id"}, "prologue"),
    ({"cmd": ["id"]}, "cmd"),
    ({"exec_prefix": "id"}, "exec_prefix"),
    ({"__class__": "x"}, "__class__"),
    ({"a\n#SBATCH": 1}, r"'a\n#SBATCH'"),
    ({1: 1}, "no option named 1"),
    ({"profile": ["gpu"]}, "(profile)"),
    ({"profile": None}, "(profile)"),
    ({"profile": {"name": "gpu"}}, "(profile)"),
    ({"profile": "ml101"}, "(profile)"),  # another group's
    ({"profile": "gpu\n"}, "(profile)"),
    ({"profile": "x" * 10_000}, "(profile)"),
    ({"image": "../../etc/passwd"}, "(image)"),
    ({"image": "BASE"}, "(image)"),
    ({"image": 0}, "(image)"),
    ({"gpus": True}, "(gpus)"),
    ({"gpus": 1.0}, "(gpus)"),
    ({"gpus": 5}, "(gpus): 5 asked, 1 to 4 allowed"),
    ({"gpus": 0}, "(gpus): 0 asked"),
    ({"gpus": -1}, "(gpus): -1 asked"),
    ({"gpus": 10**5000}, "(gpus)"),
    ({"gpus": "2\n"}, "(gpus)"),
    ({"gpus": " 2"}, "(gpus)"),
    ({"gpus": "+2"}, "(gpus)"),
    ({"gpus": "0x2"}, "(gpus)"),
    ({"gpus": "1_0"}, "(gpus)"),
    ({"gpus": "\uff12"}, "(gpus)"),
    ({"gpus": "²"}, "(gpus)"),
    ({"gpus": ""}, "(gpus)"),
    ({"gpus": "9" * 100}, "(gpus)"),
    ({"gpu_type": "mi300"}, "(gpu_type): 'mi300' asked"),
    ({"gpu_type": "a100:8"}, "(gpu_type)"),
    ({"nodes": 3}, "(nodes): 3 asked, 1 to 2 allowed"),
    ({"nodes": "1-2"}, "(nodes)"),
    ({"nodes": float("inf")}, "(nodes)"),
    ({"time": "1-00:01:00"}, "(time): 1-00:01:00 asked, at most 1-00:00:00 allowed"),
    ({"time": "UNLIMITED"}, "(time)"),
    ({"time": 0}, "(time)"),
    ({"time": "1:30"}, "(time): '1:30' asked, but is that hours? Write 1:30:00 for hours or 90 for minutes"),
    ({"time": -5}, "(time)"),
    ({"time": "1:00:00\n#SBATCH --uid=0"}, "(time)"),
    ({"time": 10**30}, "(time)"),
]


@pytest.mark.parametrize(("options", "named"), HOSTILE)
def test_hostile_options_get_a_sentence_that_names_the_field(catalog, researcher, options, named):
    with pytest.raises(RequestError) as error:
        JobRequest.parse(options, catalog, researcher)
    assert named in error.value.sentence
    assert "\n" not in error.value.sentence
    assert len(error.value.sentence) < 300


def test_an_image_of_another_group(catalog):
    both = Person("mia", frozenset({"ml101"}))
    with pytest.raises(RequestError, match=r"\(image\): 'ml' asked, but you can have base"):
        JobRequest.parse({"profile": "ml101", "image": "ml"}, catalog, both)


def test_gpus_where_there_are_none(ask, student):
    with pytest.raises(RequestError, match=r"\(gpus\): 1 asked, only 0 allowed"):
        ask({"gpus": 1}, student)
    with pytest.raises(RequestError, match=r"\(gpu_type\)"):
        ask({"gpu_type": "a100"}, student)
    assert ask({"gpus": 0}, student).gpu_type is None


def parse(options, **profile):
    profiles = [{"name": "p", "title": "P", "max_time": 60, **profile}]
    return JobRequest.parse(
        options, Catalog.load({"base": {"title": "B", "path": "/b.sif"}}, {}, profiles), Person("x")
    )


@pytest.mark.parametrize(
    ("gpu_type", "gres"),
    [
        ("a100", "gpu:a100"),
        ("gpu:a100", "gpu:a100"),
        ("1g.10gb", "gpu:1g.10gb"),
        ("gpu", "gpu"),
        ("shard", "shard"),
        ("shard:a100", "shard:a100"),
    ],
)
def test_gpu_types_are_called_as_slurm_calls_them(gpu_type, gres):
    assert parse({}, gpu_type=gpu_type, max_gpus_per_node=1).gres == gres


def test_without_types_or_without_gpus():
    assert parse({}, max_gpus_per_node=1).gres == "gpu"
    assert parse({"gpus": 0}, gpu_type="a100", min_gpus_per_node=0, max_gpus_per_node=1).gres is None


def test_what_is_fixed_cannot_be_changed_and_is_not_remembered():
    request = parse({}, partition="p", account="a", qos="q", reservation="r", constraint="c&d")
    assert (request.partition, request.account, request.qos) == ("p", "a", "q")
    assert (request.reservation, request.constraint) == ("r", "c&d")
    assert set(request.options()) == {"profile", "image", "gpus", "nodes", "time"}
    for field in ("account", "qos", "reservation", "constraint"):
        with pytest.raises(RequestError, match=rf"\({field}\): 'other' asked, but “P” has "):
            parse({field: "other"}, account="a", qos="q", reservation="r", constraint="c&d")


def test_a_choice_has_a_default_and_may_be_none():
    bounds = {"account": ["a", "b"], "qos": ["", "night"], "constraint": ["ssd", "big"]}
    request = parse({}, **bounds)
    assert (request.account, request.qos, request.constraint) == ("a", None, "ssd")
    request = parse({"account": "b", "qos": "night", "constraint": "big"}, **bounds)
    assert (request.account, request.qos, request.constraint) == ("b", "night", "big")
    assert parse(request.options(), **bounds) == request
    with pytest.raises(RequestError, match=r"\(qos\): 'day' asked, but “P” has none or night"):
        parse({"qos": "day"}, **bounds)


def test_where_the_site_names_none_an_account_is_slurms_matter_but_a_name():
    request = parse({"account": "my-lab", "qos": "night"})
    assert (request.account, request.qos, request.reservation) == ("my-lab", "night", None)
    for hostile in ("a,b", "a b", "a\n#SBATCH --uid=0", "-x", "a=b", 5, "x" * 64):
        with pytest.raises(RequestError, match=r"\(account\)"):
            parse({"account": hostile})
    for field in ("reservation", "constraint"):
        with pytest.raises(RequestError, match=rf"\({field}\): 'x' asked, but “P” has none"):
            parse({field: "x"})


def test_cores_and_memory_within_bounds():
    bounds = {"cpus": 2, "max_cpus": 8, "memory": "2G", "max_memory": "16G"}
    assert (parse({}, **bounds).cpus, parse({}, **bounds).memory) == (2, 2048)
    request = parse({"cpus": 8, "memory": "1536M"}, **bounds)
    assert (request.cpus, request.memory) == (8, 1536)
    assert parse(request.options(), **bounds) == request
    with pytest.raises(RequestError, match=r"\(cpus\): 9 asked, 1 to 8 allowed"):
        parse({"cpus": 9}, **bounds)
    with pytest.raises(RequestError, match=r"\(memory\): 32G asked, at most 16G allowed"):
        parse({"memory": "32G"}, **bounds)
    with pytest.raises(RequestError, match=r"\(memory\): '4 GB' asked, but an amount"):
        parse({"memory": "4 GB"}, **bounds)


def test_cores_and_memory_that_follow_from_gpus_are_fixed():
    bounds = {"max_gpus_per_node": 4, "cpus_per_gpu": 3, "memory_per_gpu": "1G"}
    assert (parse({"gpus": 2}, **bounds).cpus, parse({"gpus": 2}, **bounds).memory) == (6, 2048)
    assert parse({"gpus": 2, "cpus": 6, "memory": "2G"}, **bounds).cpus == 6
    with pytest.raises(RequestError, match=r"\(cpus\): 7 asked, only 6 allowed"):
        parse({"gpus": 2, "cpus": 7}, **bounds)
    with pytest.raises(RequestError, match=r"\(memory\): 4G asked, only 2G allowed"):
        parse({"gpus": 2, "memory": "4G"}, **bounds)
    with pytest.raises(RequestError, match=r"\(memory\): 5 asked, but Slurm's default"):
        parse({"memory": 5})


def test_a_form_is_unwrapped():
    form = {"_xsrf": ["x"], "gpus": ["2"], "nodes": [""], "image": ["a", "b"], "evil_file": [object()]}
    options = from_form(form)
    assert options["gpus"] == "2"
    assert options["image"] == ["a", "b"]
    assert set(options) == {"gpus", "image", "evil_file"}


@pytest.mark.parametrize(
    "options", [None, 5, [], "x", {"gpus": [1]}, {"evil": "x"}, {"gpus": True}, {"time": "x" * 999}]
)
def test_what_cannot_be_shown_again_is_left_out(options):
    assert harmless(options) == {}


def test_the_form_shows_what_was_asked_for_in_its_profile_only(catalog):
    form = SpawnForm.build(
        catalog.visible_to(["researchers", "ml101"]), {"profile": "gpu", "gpus": "9", "time": "90"}
    )
    (gpu,), (course,) = form.profiles, form.courses
    assert gpu.open
    assert (gpu.values["gpus"], gpu.values["time"], gpu.max_time) == ("9", "1:30:00", "1-00:00:00")
    assert not course.open
    assert course.values["gpus"] == "0"
    assert (course.totals.cpus, course.totals.memory_text) == (1, "1 GiB")
