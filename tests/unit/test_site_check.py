"""The site check's judgements, and that one look cannot spoil another."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time

import pytest
from traitlets.config import Config

from carme_hub import cli, site_check
from carme_hub.checks import cluster, database, gate, here, hub, node
from carme_hub.checks.values import Check, Probe, State, failed, ok, skipped, take_all, warning
from carme_hub.spawner.catalog import Catalog
from carme_hub.spawner.cluster import Cluster, Node, Partition
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES

DAY = 86400


def probe(name, look, time_out=5.0):
    return Probe("Part", name, time_out, look)


async def test_looks_are_taken_at_once_and_none_spoils_another():
    together = asyncio.Barrier(2)

    async def meets():
        await together.wait()
        return [ok("meets", "Fine.")]

    async def breaks():
        raise ZeroDivisionError

    async def hangs():
        await asyncio.Event().wait()

    found = await take_all(
        [probe("one", meets), probe("breaks", breaks), probe("hangs", hangs, 0.05), probe("two", meets)]
    )
    assert [(check.name, check.state) for check in found] == [
        ("meets", State.OK),
        ("breaks", State.FAILED),
        ("hangs", State.FAILED),
        ("meets", State.OK),
    ]
    assert "ZeroDivisionError" in found[1].sentence
    assert "0.05 s" in found[2].sentence
    assert all(check.part == "Part" for check in found)
    assert found[2].seconds >= 0.05


@pytest.mark.parametrize(
    ("checks", "state", "code"),
    [
        ([ok("a", "")], State.OK, 0),
        ([ok("a", ""), skipped("b", "")], State.OK, 0),
        ([ok("a", ""), warning("b", "")], State.WARNING, 3),
        ([warning("a", ""), failed("b", "")], State.FAILED, 1),
        ([], State.OK, 0),
    ],
)
def test_the_worst_check_decides_the_exit_code(monkeypatch, capsys, checks, state, code):
    async def found(_config, _person, _path):
        return checks

    monkeypatch.setattr(site_check, "check_site", found)
    assert site_check.worst(checks) is state
    assert site_check.command(None, "adam", as_json=True) == code
    assert [one["state"] for one in json.loads(capsys.readouterr().out)] == [str(c.state) for c in checks]


def test_the_text_tells_what_is_wrong_first_and_speaks_to_no_terminal():
    text = site_check.as_text(
        [Check("good", State.OK, "Fine.", part="A"), Check("bad", State.FAILED, "No\x1b[2J.", part="A")]
    )
    assert text.index("bad") < text.index("good")
    assert "\x1b" not in text
    assert "2 checks: 1 failed, 1 ok" in text


@pytest.mark.parametrize(
    ("controller", "commands", "state"),
    [
        ("22.05.8", "slurm-wlm 22.05.8", State.OK),
        ("25.11.2", "slurm 25.05.1", State.OK),
        ("21.08.5", "slurm 21.08.5", State.FAILED),
        ("24.05.1", "slurm 24.11.0", State.FAILED),
        ("27.05.0", "slurm 26.05.0", State.WARNING),
        ("", "slurm 26.05.0", State.WARNING),
    ],
)
def test_versions_of_slurm_are_judged_against_what_is_supported(controller, commands, state):
    assert cluster.judge_version("v", controller, commands).state is state


@pytest.mark.parametrize(
    ("seconds", "state"), [(0, State.OK), (5, State.OK), (6, State.WARNING), (60, State.FAILED)]
)
def test_clocks_may_differ_by_some_seconds(seconds, state):
    assert cluster.judge_clock("Clock", "Its", seconds).state is state


def seen(*nodes, state="up"):
    return Cluster(
        0.0,
        {one.name: one for one in nodes},
        {"gpu": Partition("gpu", state, nodes=tuple(one.name for one in nodes))},
    )


def profiles():
    return list(Catalog.load(IMAGES, MOUNTS, PROFILES).profiles.values())


GOOD = Node("n1", "idle", gres={"gpu:a100": 4, "gpu:h100": 2})
AWAY = Node("n2", "drained", reason="broken fan", gres={"gpu:a100": 4})


@pytest.mark.parametrize(
    ("cluster_", "state", "word"),
    [
        (seen(GOOD), State.OK, "1 of 1 node take"),
        (seen(GOOD, AWAY), State.WARNING, "n2 (broken fan)"),
        (seen(AWAY, Node("n3", "down", gres={"gpu:h100": 1})), State.FAILED, "broken fan"),
        (seen(GOOD, state="down"), State.FAILED, "'down'"),
        (seen(Node("n1", "idle", gres={"gpu:a100": 4})), State.FAILED, "gpu:h100"),
        (Cluster(0.0, {}, {}), State.FAILED, "no partition 'gpu'"),
    ],
)
def test_a_partition_has_to_be_there_up_and_with_the_gpus_that_are_offered(cluster_, state, word):
    check = cluster.judge_partitions(cluster_, profiles()[:1])[0]
    assert check.state is state
    assert word.lower() in check.sentence.lower()


def test_a_profile_without_a_partition_needs_the_default_one():
    check = cluster.judge_partitions(seen(GOOD), [profiles()[1].model_copy(update={"partition": None})])[0]
    assert check.state is State.FAILED
    assert "no partition is the default" in check.sentence.lower()


def test_places_are_the_partitions_with_what_their_profiles_need():
    catalog = Catalog.load(IMAGES, MOUNTS, PROFILES)
    found = {place.partition: place for place in node.places(catalog, catalog.profiles.values())}
    assert [image.name for image in found["gpu"].images] == ["base", "ml"]
    assert [mount.name for mount in found["gpu"].mounts] == ["slurm", "datasets", "munge"]
    assert [image.name for image in found["teaching"].images] == ["base"]
    assert found["gpu"].accounts == ("research",)


def test_the_job_is_small_and_its_script_is_one_for_bash(tmp_path):
    catalog = Catalog.load(
        {"odd": {"title": "Odd", "path": "/srv/it's $(odd).sif", "mounts": ["data"]}},
        {"data": {"source": "/srv/data", "target": "/data", "filesystem": "nfs"}},
        [{"name": "p", "title": "P", "partition": "cpu"}],
    )
    (place,) = node.places(catalog, catalog.profiles.values())
    text = node.write("apptainer", place, "/home/adam", "research")
    for line in ("--partition=cpu", "--account=research", "--cpus-per-task=1", "--time=2", "--no-requeue"):
        assert f"#SBATCH {line}" in text
    file = tmp_path / "job.sh"
    file.write_text(text)
    assert subprocess.run(["bash", "-n", str(file)], check=False, timeout=10).returncode == 0


def run_here(tmp_path, catalog, apptainer):
    """Run the job's script on this machine, and return what it told."""
    (place,) = node.places(catalog, catalog.profiles.values())
    home = tmp_path / "home"
    home.mkdir()
    done = subprocess.run(
        ["bash"],
        input=node.write(str(apptainer), place, str(home)),
        env={"PATH": "/usr/bin:/bin", "SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n1"},
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0
    log = (home / ".carme" / "session-7.log").read_text()
    return place, node.Told("n1", node.read(log))


def test_the_job_tells_of_each_image_and_mount_how_it_stands_with_it(tmp_path):
    broken, fine, bare = tmp_path / "broken.sif", tmp_path / "fine.sif", tmp_path / "bare.sif"
    bare.touch()
    broken.touch()
    fine.touch()
    program = tmp_path / "apptainer"
    program.write_text(
        '#!/bin/sh\ncase "$*" in --version) echo "apptainer version 1.4.5";;'
        ' *broken.sif*) echo "first" >&2; echo "FATAL: no image" >&2; exit 255;;'
        # What the image's own shell says, where there is no such file.
        ' *bare.sif*) while [ "$1" != /bin/sh ]; do shift; done; exec "$@";; esac\n'
    )
    program.chmod(0o755)
    catalog = Catalog.load(
        {
            "fine": {"title": "Fine", "path": str(fine), "mounts": ["here", "gone", "wrong"]},
            "bare": {"title": "Bare", "path": str(bare)},
            "broken": {"title": "Broken", "path": str(broken)},
            "gone": {"title": "Gone", "path": str(tmp_path / "gone.sif")},
        },
        {
            "here": {"source": str(tmp_path), "target": "/data"},
            "gone": {"source": str(tmp_path / "gone"), "target": "/gone"},
            "wrong": {"source": str(tmp_path), "target": "/wrong", "filesystem": "beegfs"},
        },
        [{"name": "p", "title": "P", "partition": "cpu"}],
    )
    before = time.time()
    place, told = run_here(tmp_path, catalog, program)
    found = {check.name: check for check in node.judge(place, told, "adam", before, time.time())}
    assert {name.removesuffix(" on n1 (cpu)"): str(check.state) for name, check in found.items()} == {
        "Apptainer": "ok",
        "Mount here": "ok",
        "Mount gone": "failed",
        "Mount wrong": "failed",
        "Image fine": "ok",
        "Image bare": "warning",
        "Image broken": "failed",
        "Image gone": "failed",
        "Clock of n1": "ok",
    }
    assert "1.4.5" in found["Apptainer on n1 (cpu)"].sentence
    assert "carme_session" in found["Image bare on n1 (cpu)"].sentence
    assert "FATAL: no image" in found["Image broken on n1 (cpu)"].sentence
    assert "has to be on beegfs" in found["Mount wrong on n1 (cpu)"].sentence
    late = {check.name: check for check in node.judge(place, told, "adam", before + 90, before + 91)}
    assert late["Clock of n1"].state is State.FAILED


def test_without_apptainer_nothing_is_said_of_what_starts_in_images(tmp_path):
    image = tmp_path / "fine.sif"
    image.touch()
    catalog = Catalog.load(
        {"fine": {"title": "Fine", "path": str(image)}}, {}, [{"name": "p", "title": "P", "partition": "cpu"}]
    )
    place, told = run_here(tmp_path, catalog, tmp_path / "missing")
    found = node.judge(place, told, "adam", time.time() - 9, time.time())
    assert [check.state for check in found][:2] == [State.FAILED, State.WARNING]


def test_what_a_job_says_is_data():
    told = node.Told(
        "n1", node.read("noise\ncarme-check image base ok\ncarme-check image\ncarme-check clock end x\n")
    )
    place = node.Place("cpu")
    assert told.answers[("image", "base")] == ("ok", "")
    assert [check.name for check in node.judge(place, told, "adam", 0, 1)] == ["Apptainer on n1 (cpu)"]


@pytest.mark.parametrize(
    ("readable", "needed", "state"),
    [
        (True, True, State.OK),
        (True, False, State.OK),
        (False, True, State.FAILED),
        (False, False, State.SKIPPED),
    ],
)
def test_what_only_nodes_need_may_be_missing_on_the_hubs_machine(readable, needed, state):
    assert here.judge("Image", "/x", readable=readable, needed=needed).state is state


@pytest.mark.parametrize(
    ("shown", "states"),
    [
        (gate.Seen(0.1, bound=True, ends=100 * DAY), [State.OK, State.OK]),
        (gate.Seen(0.1, bound=True, ends=20 * DAY), [State.OK, State.WARNING]),
        (gate.Seen(0.1, bound=True, ends=-DAY), [State.OK, State.FAILED]),
        (gate.Seen(0.1, bound=False, ends=100 * DAY), [State.FAILED, State.OK]),
        (gate.Seen(3.0, bound=True, ends=100 * DAY), [State.WARNING, State.OK]),
        (gate.Seen(0.1, bound=None, ends=100 * DAY), [State.WARNING, State.OK]),
        (gate.Seen(0.1, bound=True), [State.OK, State.FAILED]),
        (gate.Seen(0.1, bound=True, ends=100 * DAY, behind=90), [State.OK, State.OK, State.FAILED]),
    ],
)
def test_a_directory_server_is_judged_by_what_it_shows(shown, states):
    assert [check.state for check in gate.judge_server("Directory server x", shown, now=0.0)] == states


@pytest.mark.parametrize(
    ("status", "text", "seconds", "state"),
    [
        (200, '{"version": "6.1.1"}', 0.1, State.OK),
        (200, '{"version": "6.1.1"}', 2.0, State.WARNING),
        (200, '{"version": "6.0.0"}', 0.1, State.WARNING),
        (503, "<html>", 0.1, State.FAILED),
        (200, "[]", 0.1, State.FAILED),
    ],
)
def test_the_hub_is_judged_by_its_own_answer(status, text, seconds, state):
    assert hub.judge_hub("Hub", status, text, seconds, "6.1.1").state is state


@pytest.mark.parametrize(
    ("text", "state"),
    [('{"signed_in": false}', State.OK), ("<html>", State.FAILED), ("3", State.FAILED), ("[]", State.FAILED)],
)
def test_only_the_service_itself_counts_as_the_service(text, state):
    assert hub.judge_service("Service", text, 0.1).state is state


def test_the_tables_have_to_be_of_this_programs_shape():
    newest = {"sign-in": "0002", "records": "0001"}
    judge = lambda found, seconds=0.0: database.judge("Database", found, newest, seconds)  # noqa: E731
    assert judge(newest).state is State.OK
    assert judge(newest, 2.0).state is State.WARNING
    assert judge({**newest, "records": ""}).state is State.FAILED
    assert "missing" in judge({**newest, "records": ""}).sentence
    assert judge({**newest, "sign-in": "0001"}).state is State.FAILED


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    file = tmp_path / "carme.sqlite"
    assert database.look(f"sqlite:///{file}", gate.SHAPES)[0].state is State.FAILED
    assert database.look_at_hub(f"sqlite:///{file}")[0].state is State.FAILED
    assert not file.exists()
    assert database.look_at_hub("sqlite:///jupyterhub.sqlite")[0].state is State.SKIPPED


def test_a_key_that_others_can_read_is_told(tmp_path, monkeypatch):
    monkeypatch.delenv("CARME_SECRET_KEY", raising=False)
    file = tmp_path / "carme.key"
    file.write_text("A" * 43 + "=\n")
    file.chmod(0o644)
    assert "chmod 600" in gate.look_at_key(str(file))[0].sentence
    file.chmod(0o600)
    assert gate.look_at_key(str(file))[0].state is State.OK


def test_a_wrong_description_is_told_and_nothing_is_asked():
    config = Config()
    config.CarmeSpawner.images = IMAGES
    config.CarmeSpawner.mounts = MOUNTS
    config.CarmeSpawner.profiles = [{"name": "p"}]
    config.JupyterHub.spawner_class = "carme"
    (found,) = asyncio.run(site_check.check_site(config))
    assert found == Check(
        'CarmeSpawner.profiles, profile "p"', State.FAILED, '"title" is missing; add it', part="Configuration"
    )


def test_addresses_follow_the_hubs_own_settings():
    config = Config()
    assert hub.Addresses.of(config).front == "http://127.0.0.1:8000/"
    config.JupyterHub.bind_url = "http://:8080/jupyter"
    config.JupyterHub.ssl_cert = "/etc/cert.pem"
    config.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:9001/"
    at = hub.Addresses.of(config)
    assert (at.front, at.proxy) == ("https://127.0.0.1:8080/jupyter/", "http://127.0.0.1:9001")


def test_carme_check_without_site_still_reads_the_configuration_only(tmp_path, capsys):
    file = tmp_path / "jupyterhub_config.py"
    file.write_text("c = get_config()\nc.JupyterHub.spawner_class = 'carme'\n")
    images, profiles = {"base": {"title": "B", "path": "/b.sif"}}, [{"name": "p", "title": "P"}]
    with file.open("a") as more:
        more.write(f"c.CarmeSpawner.images = {images!r}\nc.CarmeSpawner.profiles = {profiles!r}\n")
    with pytest.raises(SystemExit) as ended:
        cli.main(["--config", str(file), "check"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == "OK: 1 image, 0 mounts, 1 profile\n"
