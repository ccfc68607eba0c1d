"""What open pages hear of sessions on the real cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import requests

from tests.integration.service_world import SERVICE, events_of


def stream(site: Any, person: Any) -> requests.Response:
    headers = {"Authorization": f"token {person.token}"}
    return requests.get(f"{site.hub_url}{SERVICE}api/events", headers=headers, stream=True, timeout=(30, 90))


def listened(answer: requests.Response) -> Iterator[tuple[str, Any]]:
    return events_of(answer.iter_lines(chunk_size=1, decode_unicode=True))


def test_an_open_page_hears_of_its_owners_sessions_and_of_no_others(site, person):
    rosa, mia = person("rosa"), person("mia")
    with stream(site, rosa) as hers, stream(site, mia) as others:
        heard, overheard = listened(hers), listened(others)
        rosa.start(profile="cpu")
        states = []
        while "running" not in states:
            event, value = next(heard)
            if event == "sessions":
                assert {one["user"] for one in value} <= {"rosa"}
                states += [one["state"] for one in value]
        assert site.jobs("rosa") == [str(value[0]["job"])]
        assert rosa.api("DELETE", "/users/rosa/server").status_code in {202, 204}
        while (event, value) != ("sessions", []):
            event, value = next(heard)
        # Whatever came to the other page meanwhile was there before this.
        mia.start(profile="ml101")
        told: list[dict[str, Any]] = []
        while not told:
            event, value = next(overheard)
            if event == "sessions":
                told = value
        assert {one["user"] for one in told} == {"mia"}
        assert mia.api("DELETE", "/users/mia/server").status_code in {202, 204}
