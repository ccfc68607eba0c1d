import copy

import pytest

from carme_hub.spawner import units
from carme_hub.spawner.catalog import Catalog, CatalogError
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES


def changed(part, where, **values):
    site = {
        "images": copy.deepcopy(IMAGES),
        "mounts": copy.deepcopy(MOUNTS),
        "profiles": copy.deepcopy(PROFILES),
    }
    site[part][where].update(values)
    return site


def test_a_profile_without_images_offers_all(catalog):
    assert catalog.profiles["gpu"].images == ("base", "ml")


def test_what_follows_from_other_values_is_filled_in(catalog):
    gpu = catalog.profiles["gpu"]
    assert (gpu.min_gpus_per_node, gpu.default_gpus_per_node) == (1, 1)
    assert (gpu.max_time, gpu.default_time, gpu.memory_per_gpu) == (1440, 120, 2048)
    assert catalog.profiles["ml101"].default_time == 120


def test_one_gpu_type_or_several():
    site = changed("profiles", 0, gpu_type="a100")
    del site["profiles"][0]["gpu_types"]
    assert Catalog.load(**site).profiles["gpu"].gpu_types == ("a100",)


@pytest.mark.parametrize(
    ("groups", "profiles", "images"),
    [
        ([], [], ["base"]),
        (["ml101"], ["ml101"], ["base"]),
        (["researchers"], ["gpu"], ["base", "ml"]),
        (["researchers", "ml101"], ["gpu", "ml101"], ["base", "ml"]),
    ],
)
def test_groups_decide_what_is_visible(catalog, groups, profiles, images):
    seen = catalog.visible_to(groups)
    assert (list(seen.profiles), list(seen.images)) == (profiles, images)


def test_a_mount_of_another_group_is_not_shown():
    site = Catalog.load(**changed("mounts", "datasets", groups=["astronomers"]))
    seen = site.visible_to(["researchers"])
    assert [mount.name for mount in seen.mounts_of(seen.images["ml"])] == ["slurm", "munge"]
    seen = site.visible_to(["researchers", "astronomers"])
    assert [mount.name for mount in seen.mounts_of(seen.images["ml"])] == ["datasets", "slurm", "munge"]


def test_one_value_is_fixed_and_several_are_a_choice():
    site = changed("profiles", 1, account="teaching", qos=["", "night"], constraint=["ssd", "big&fast"])
    profile = Catalog.load(**site).profiles["ml101"]
    assert (profile.account, profile.qos) == (("teaching",), ("", "night"))
    assert (profile.reservation, profile.constraint) == ((), ("ssd", "big&fast"))


def test_what_the_site_leaves_to_slurm_has_no_bound_of_its_own():
    site = changed("profiles", 0, max_gpus_per_node="partition", max_nodes="partition")
    del site["profiles"][0]["max_time"], site["profiles"][0]["default_time"]
    profile = Catalog.load(**site).profiles["gpu"]
    assert (profile.max_gpus_per_node, profile.max_nodes) == (1024, 100_000)
    assert (profile.default_gpus_per_node, profile.max_time, profile.default_time) == (1, 366 * 1440, 60)


def test_a_profile_whose_images_are_all_hidden_is_hidden():
    site = changed("profiles", 1, images=["ml"])
    assert not Catalog.load(**site).visible_to(["ml101"]).profiles


MISTAKES = [
    (changed("profiles", 1, max_time="soon"), 'CarmeSpawner.profiles, profile "ml101", max_time: '),
    (changed("profiles", 1, max_time="0"), 'CarmeSpawner.profiles, profile "ml101", max_time: '),
    (changed("profiles", 1, memory="4 GB"), 'CarmeSpawner.profiles, profile "ml101", memory: '),
    (changed("profiles", 1, memory=True), 'CarmeSpawner.profiles, profile "ml101", memory: '),
    (changed("profiles", 1, cpus="2"), 'CarmeSpawner.profiles, profile "ml101", cpus: '),
    (changed("profiles", 1, colour="red"), 'CarmeSpawner.profiles, profile "ml101": unknown name "colour"'),
    (changed("profiles", 1, name="gpu"), 'CarmeSpawner.profiles: two profiles have the name "gpu"'),
    (changed("profiles", 1, name="../x"), 'CarmeSpawner.profiles, profile "../x", name: '),
    (changed("profiles", 1, name="ml101\n"), 'CarmeSpawner.profiles, profile "ml101?", name: '),
    (
        changed("profiles", 1, partition="teaching\n#SBATCH --uid=0"),
        'CarmeSpawner.profiles, profile "ml101", partition: ',
    ),
    (changed("profiles", 1, partition="--uid=0"), 'CarmeSpawner.profiles, profile "ml101", partition: '),
    (
        changed("profiles", 1, images=["no"]),
        'CarmeSpawner.profiles, profile "ml101", images: there is no image "no"',
    ),
    (
        changed("profiles", 1, default_time="3:00:00"),
        'CarmeSpawner.profiles, profile "ml101": default_time is more',
    ),
    (changed("profiles", 0, min_time="3:00:00"), 'CarmeSpawner.profiles, profile "gpu": min_time is more'),
    (
        changed("profiles", 0, min_nodes=3),
        'CarmeSpawner.profiles, profile "gpu": min_nodes is 3, but max_nodes is 2',
    ),
    (
        changed("profiles", 0, default_nodes=3),
        'CarmeSpawner.profiles, profile "gpu": default_nodes is 3, but has to be from 1 to 2',
    ),
    (
        changed("profiles", 1, cpus_per_gpu=2),
        'CarmeSpawner.profiles, profile "ml101": cpus and max_cpus exclude',
    ),
    (changed("profiles", 0, max_cpus=2), 'CarmeSpawner.profiles, profile "gpu": cpus and max_cpus exclude'),
    (
        changed("profiles", 1, memory_per_gpu="1G"),
        'CarmeSpawner.profiles, profile "ml101": memory and max_memory exclude',
    ),
    (
        changed("profiles", 1, cpus=4, max_cpus=2),
        'CarmeSpawner.profiles, profile "ml101": cpus is more than max_cpus',
    ),
    (
        changed("profiles", 1, max_memory="512M"),
        'CarmeSpawner.profiles, profile "ml101": max_memory needs a default',
    ),
    (
        changed("profiles", 1, max_extended_time="5"),
        'CarmeSpawner.profiles, profile "ml101": max_extended_time is less',
    ),
    (changed("profiles", 1, max_running=0), 'CarmeSpawner.profiles, profile "ml101", max_running: '),
    (
        changed("profiles", 1, account=["a", "a"]),
        'CarmeSpawner.profiles, profile "ml101": account names a value twice',
    ),
    (
        changed("profiles", 1, qos=["a", ""]),
        'CarmeSpawner.profiles, profile "ml101": qos names a value twice',
    ),
    (
        changed("profiles", 1, reservation=["x\n#SBATCH"]),
        'CarmeSpawner.profiles, profile "ml101", reservation',
    ),
    (changed("profiles", 1, reservation=7), 'CarmeSpawner.profiles, profile "ml101", reservation: '),
    (changed("profiles", 0, gpu_types=["shard:"]), 'CarmeSpawner.profiles, profile "gpu", gpu_types: '),
    (changed("profiles", 0, gpu_types=["a100:4"]), 'CarmeSpawner.profiles, profile "gpu", gpu_types: '),
    (
        changed("profiles", 0, max_gpus_per_node="all"),
        'CarmeSpawner.profiles, profile "gpu", max_gpus_per_node: ',
    ),
    (
        changed("profiles", 0, min_gpus_per_node=0),
        'CarmeSpawner.profiles, profile "gpu": cpus_per_gpu and memory_per_gpu need',
    ),
    (changed("profiles", 0, min_gpus_per_node=9), 'CarmeSpawner.profiles, profile "gpu": min_gpus_per_node'),
    (changed("profiles", 0, gpu_type="a100"), 'CarmeSpawner.profiles, profile "gpu": gpu_type and gpu_types'),
    (
        changed("profiles", 0, gpu_types=["a100", "a100"]),
        'CarmeSpawner.profiles, profile "gpu": gpu_types names a type twice',
    ),
    (
        changed("profiles", 1, course={"material": "rel", "notebook": "x"}),
        'CarmeSpawner.profiles, profile "ml101", course, material: ',
    ),
    (
        changed("profiles", 1, course={"material": "/m", "notebook": "../x"}),
        'CarmeSpawner.profiles, profile "ml101", course, notebook: ',
    ),
    (
        changed("images", "ml", mounts=["no"]),
        'CarmeSpawner.images, image "ml", mounts: there is no mount "no"',
    ),
    (changed("images", "ml", apps=["emacs"]), 'CarmeSpawner.images, image "ml", apps: '),
    (changed("images", "ml", path="image.sif"), 'CarmeSpawner.images, image "ml", path: '),
    (changed("images", "ml", path="/a,b"), 'CarmeSpawner.images, image "ml", path: '),
    (changed("mounts", "slurm", source="/a:/etc"), 'CarmeSpawner.mounts, mount "slurm", source: '),
    (changed("mounts", "slurm", source="/a/../etc"), 'CarmeSpawner.mounts, mount "slurm", source: '),
    (changed("mounts", "slurm", target="/"), 'CarmeSpawner.mounts, mount "slurm", target: '),
    (changed("mounts", "slurm", target="/proc/1"), 'CarmeSpawner.mounts, mount "slurm", target: '),
    (changed("mounts", "slurm", target="/usr"), 'CarmeSpawner.mounts, mount "slurm", target: '),
    (
        changed("mounts", "slurm", target="/data"),
        'CarmeSpawner.images, image "ml", mounts: two mounts have the target /data',
    ),
    (changed("mounts", "slurm", name="x"), 'CarmeSpawner.mounts, mount "slurm", name: '),
    ({"images": [], "mounts": {}, "profiles": []}, "CarmeSpawner.images: a dictionary"),
    ({"images": {}, "mounts": {}, "profiles": {}}, "CarmeSpawner.profiles: a list"),
    ({"images": {}, "mounts": {}, "profiles": ["gpu"]}, "CarmeSpawner.profiles, profile 1: a dictionary"),
    ({"images": {3: {}}, "mounts": {}, "profiles": []}, "CarmeSpawner.images, image 3, name: "),
]


@pytest.mark.parametrize(("site", "start"), MISTAKES)
def test_every_mistake_names_its_setting(site, start):
    with pytest.raises(CatalogError) as error:
        Catalog.load(**site)
    assert any(line.startswith(start) for line in str(error.value).splitlines()), str(error.value)


def test_all_mistakes_are_told_at_once():
    site = changed("profiles", 0, max_time="soon")
    site["profiles"][1]["memory"] = "much"
    with pytest.raises(CatalogError, match=r"(?s)\"gpu\", max_time.*\"ml101\", memory"):
        Catalog.load(**site)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90", 90),
        ("90:30", 91),
        ("1:30:00", 90),
        ("1:30:01", 91),
        ("1-0", 1440),
        ("1-2:30", 1590),
        ("1-00:00:00", 1440),
        ("2-12:00:00", 3600),
    ],
)
def test_times_are_read_as_slurm_reads_them(text, expected):
    assert units.minutes(text) == expected


@pytest.mark.parametrize("text", ["", " 90", "90\n", "1h", "-5", "1:2:3:4", "1-", "٣", "UNLIMITED", "9" * 50])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ValueError, match="is needed"):
        units.minutes(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("512", 512), ("512M", 512), ("2G", 2048), ("1T", 1048576), ("1k", 1)]
)
def test_memory_is_read_as_slurm_reads_it(text, expected):
    assert units.mebibytes(text) == expected


@pytest.mark.parametrize("amount", [1, 512, 1024, 1536, 2048, 1048576])
def test_memory_is_written_so_that_it_reads_the_same(amount):
    assert units.mebibytes(units.show_mebibytes(amount)) == amount


@pytest.mark.parametrize("amount", [1, 59, 60, 90, 1439, 1440, 4000])
def test_times_are_written_so_that_they_read_the_same(amount):
    assert units.minutes(units.show_minutes(amount)) == amount
