"""What pages say was asked for, of stored options that may be old, incomplete or forged."""

import pytest

from carme_hub.spawner.asked import asked


def test_a_request_in_words(ask, catalog):
    request = ask({"profile": "gpu", "gpus": 2, "nodes": 2, "time": "1:30:00", "image": "ml"})
    told = asked(request.options(), catalog)
    assert told.title == "GPU session"
    assert told.shown == {
        "image": "Machine learning",
        "gpus": "2 a100",
        "nodes": "2",
        "cpus": "4",
        "memory": "4 GiB",
        "time": "1 h 30 min",
    }


def test_the_same_again_is_the_same_request(ask, catalog):
    request = ask({"profile": "gpu", "gpus": 3, "time": 45})
    assert ask(dict(asked(request.options(), catalog).options)) == request


def test_what_the_profile_fixes_is_shown_though_nobody_chose_it(catalog):
    told = asked({"profile": "ml101", "time": "0:20:00"}, catalog)
    assert told.shown == {"image": "Base", "cpus": "1", "memory": "1 GiB", "time": "20 min"}


@pytest.mark.parametrize(
    "options", [None, {}, [], "x", {"profile": ["gpu"]}, {"exec_prefix": "id"}, {"gpus": True}]
)
def test_options_that_are_none_are_not_shown_and_not_asked_again(options, catalog):
    told = asked(options, catalog)
    assert (told.title, told.options) == ("", {})


def test_what_the_site_does_not_offer_any_more_is_called_by_its_name(catalog):
    told = asked({"profile": "old", "image": "gone", "time": "soon", "gpus": "9" * 50}, catalog)
    assert told.title == "old"
    assert told.shown == {"image": "gone", "time": "soon"}
