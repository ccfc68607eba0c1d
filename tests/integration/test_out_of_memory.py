"""A kernel that is killed because memory ran out: its owner is told, wherever they look."""

from __future__ import annotations

from carme_hub.spawner import memorywatch
from tests.support import until

# More than the session has; the kernel is the largest program, and is killed.
GREEDY = "x = [bytearray(50_000_000) for _ in range(60)]"
SENTENCE = memorywatch.sentence(1024)


def test_oom_of_a_kernel_is_told_in_the_session_on_the_card_and_in_the_history(site, person):
    noah = person("noah")
    noah.start(profile="cpu")
    assert noah.get("/carme/notes").json() == {"notes": []}
    noah.shell(f"(sleep 1; exec python3 -c {GREEDY!r}) & echo $!")

    def session():
        (one,) = noah.api("GET", "/carme/sessions").json()["sessions"]
        return one

    until(lambda: session()["troubles"], "the word about the memory")
    assert session()["troubles"] == [SENTENCE]
    assert session()["state"] == "running", "the session goes on"
    (note,) = noah.get("/carme/notes").json()["notes"]
    assert note["text"] == SENTENCE
    assert SENTENCE in noah.http.get(f"{site.hub_url}/hub/home", timeout=60).text

    def history():
        text = noah.http.get(f"{site.hub_url}/hub/history", timeout=60).text
        return text if SENTENCE in text else ""

    # All of its memory was used, whatever Slurm's samples say; also when the session is over.
    assert "1 GiB / 1 GiB" in until(history, "the row of the history")
    noah.end_session()
    until(lambda: "1 GiB / 1 GiB" in history(), "the row of the session that ended")
