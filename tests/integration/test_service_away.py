"""The service hangs, dies, cannot start; the hub dies: nobody is kept from their sessions."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.gate_world import Slapd, wait_for
from tests.integration.service_world import SERVICE, ServiceHub, service_hub

PATIENT = 8.0  # seconds for all of it; each step takes a fraction of one


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, directory: Slapd) -> Iterator[ServiceHub]:
    with service_hub(tmp_path_factory.mktemp("service-away"), directory) as running:
        running.until_up()
        yield running
        assert "Traceback" not in running.hub.log


def works(world: ServiceHub, username: str) -> None:
    """Sign in, look at the home page, start a session, use it, stop it."""
    began = time.monotonic()
    with world.browser(username) as person:
        assert person.get("/hub/home").status_code == 200
        path = f"/users/{username}/server"
        assert person.hub_api("POST", path).status_code in {201, 202}
        wait_for(lambda: person.get(f"/user/{username}/").text == "a session", "the session")
        assert person.hub_api("DELETE", path).status_code in {202, 204}
        servers = f"/users/{username}"
        wait_for(lambda: not person.hub_api("GET", servers).json()["servers"], "the session's end")
        assert person.get("/hub/logout").status_code == 200
    assert time.monotonic() - began < PATIENT


def test_a_service_that_hangs_is_in_nobodys_way(world):
    with world.browser("alice") as alice:
        alice.enter()
        with alice.listen() as events:
            next(events)
            os.kill(world.service(), signal.SIGSTOP)
            works(world, "bob")
            os.kill(world.service(), signal.SIGCONT)
            next(events)
        world.until_up()


def test_a_service_that_was_killed_is_in_nobodys_way_and_comes_back(world):
    with world.browser("alice") as alice:
        alice.enter()
        ticket = alice.ticket()
        before = world.service()
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: not world.answers(), "the service's end")
        page = alice.get(f"{SERVICE}about")
        if page.status_code != 200:  # it may be back already
            assert page.status_code == 503
            assert "Your sessions go on" in page.text
        works(world, "bob")
        world.until_up()
        assert world.service() != before
        # Whoever had a page open goes on with it.
        assert alice.api("me", ticket=ticket, allow_redirects=False).json()["name"] == "alice"


def test_the_service_ends_with_its_hub_and_begins_with_the_next(world):
    with world.browser("alice") as alice:
        alice.enter()
        ticket = alice.ticket()
        before = world.service()
        os.kill(before, signal.SIGSTOP)  # even so
        world.kill_hub()
        wait_for(lambda: not Path(f"/proc/{before}").exists(), "the service's end")
        world.start_hub()
        world.until_up()
        # The same login, the same cookie, the same page: nothing is to be typed again.
        assert alice.api("me", ticket=ticket, allow_redirects=False).json()["name"] == "alice"


def test_a_hub_that_stops_takes_its_service_along(world):
    before = world.service()
    world.stop_hub()
    assert not Path(f"/proc/{before}").exists()
    world.start_hub()


def test_a_port_that_is_taken_keeps_nobody_out(tmp_path_factory, directory, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr("tests.integration.service_world.free_port", lambda: port)
        with service_hub(tmp_path_factory.mktemp("service-port"), directory) as world:
            works(world, "bob")
            other.close()
            world.until_up()


@pytest.mark.parametrize("asked", ["http://[", "//[x", "/services/carme[", "", "%00", f"{SERVICE}x?<script>"])
def test_the_page_for_what_does_not_answer_takes_any_address(world, asked):
    with world.hub.visitor() as nobody:
        page = nobody.get("/hub/error/503", params={"url": asked})
        assert page.status_code == 200
        assert ("Your sessions go on" in page.text) == asked.startswith(SERVICE)
        assert "x?<script>" not in page.text
