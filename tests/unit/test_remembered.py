"""What is made of settings: once for equal ones, never for others."""

from types import SimpleNamespace

import pytest

from carme_hub.spawner import remembered
from carme_hub.spawner.catalog import CatalogError
from carme_hub.spawner.remembered import Remembered
from carme_hub.spawner.spawner import CarmeSpawner
from tests.unit.conftest import IMAGES, MOUNTS, PROFILES


def spawner(**settings):
    user = SimpleNamespace(name="rosa", url="/user/rosa/", escaped_name="rosa", groups=[])
    given = {
        "images": IMAGES,
        "mounts": MOUNTS,
        "profiles": PROFILES,
        "limits": {"max_running": 3},
    } | settings
    # As JupyterHub does: each spawner gets values of its own.
    return CarmeSpawner(user=user, **{name: value.copy() for name, value in given.items()})


def test_all_spawners_share_what_is_made_of_equal_settings():
    assert spawner().catalog is spawner().catalog
    assert spawner().limit_rules is spawner().limit_rules
    first = spawner()._new_session("slurm")
    assert first.backend is first.backend is spawner()._new_session("slurm").backend


@pytest.mark.parametrize(
    "other",
    [
        {"profiles": PROFILES[:1]},
        {"images": dict(reversed(IMAGES.items()))},
        {"clusters": {"big": {}}},
    ],
)
def test_other_settings_are_read_by_themselves(other):
    assert spawner(**other).catalog is not spawner().catalog


def test_a_setting_that_changes_counts_at_once():
    one = spawner()
    assert len(one.catalog.profiles) == 2
    one.profiles = PROFILES[:1]
    one.limits = {"max_running": 1}
    assert len(one.catalog.profiles) == 1
    assert one.limit_rules.everybody.max_running == 1


def test_a_mistake_is_told_every_time():
    for _ in range(2):
        with pytest.raises(CatalogError, match="max_time"):
            _ = spawner(profiles=[PROFILES[0] | {"max_time": "soon"}]).catalog


def test_settings_that_look_alike_are_told_apart():
    known = Remembered(lambda *settings: settings)
    for settings in ([1], [True], [1.0], ["1"], [(1,)], [[1]], [{1: 1}], [{"1": 1}], [1, 1]):
        assert repr(known(*settings)) == repr(tuple(settings))


def test_it_does_not_grow_for_ever(monkeypatch):
    monkeypatch.setattr(remembered, "_MOST", 3)
    known = Remembered(str)
    assert [known(number) for number in range(10)] == [str(number) for number in range(10)]
    assert len(known._known) <= 3
