"""Pictures of all pages, of the demo site with people at work on it: ``python -m tests.screens``.

They go to test-results/screens: each page in light and in dark, and as a phone shows it. What the
documentation shows goes to docs/images, too, made small: every page by light, some by dark and on a phone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.browser.test_walk import log_in
from tests.support import CARME, ROOT, Person, Site, until

FOLDER = ROOT / "test-results" / "screens"
DOCS = ROOT / "docs" / "images"
DESK = {"width": 1200, "height": 860}
PHONE = {"width": 390, "height": 844}
LARGEST = 150_000  # bytes of a picture in the documentation
PATIENCE = 90_000  # milliseconds


def nothing(_page: Page) -> None:
    """Leave the page as it opens."""


@dataclass(frozen=True)
class Shot:
    """A page, as somebody sees it.

    Parameters
    ----------
    name
        The file's name, without its end.
    person
        Who looks; nobody who is logged in, if empty.
    path
        The page's path.
    ready
        Makes the page ready for its picture.
    also
        What else the documentation shows of it, beside how it looks by light on a desk.
    """

    name: str
    person: str
    path: str
    ready: Callable[[Page], None] = nothing
    also: tuple[str, ...] = ()


def unfold(page: Page) -> None:
    """Show what is folded away."""
    for summary in page.locator("main summary, .container summary").all():
        if summary.is_visible() and not summary.evaluate("element => element.parentElement.open"):
            summary.click()
    # Each profile that is opened asks when it would start.
    page.locator("[data-estimate]:visible").get_by_text("Would start").wait_for()


def details(page: Page) -> None:
    """Open the details of the first session."""
    session = page.get_by_role("article").first
    session.get_by_text("Details", exact=True).click()
    session.locator("[data-detail=log]").wait_for()
    live(page)


def enrol(page: Page) -> None:
    """Go as far as the picture to scan: before the first code nothing changes for ines."""
    site = Site.running()
    told = json.loads(site.run(CARME, "user", "enrol-token", "--json", "ines"))
    page.get_by_label("User name").fill("ines")
    page.get_by_label("Password").fill(site.accounts["ines"]["password"])
    page.get_by_label("Enrolment token").fill(told["token"])
    page.get_by_label("Enrolment token").press("Enter")
    page.get_by_role("img", name="QR code").wait_for()


def lab(page: Page) -> None:
    """Wait for JupyterLab's launcher."""
    page.locator(".jp-LauncherCard").first.wait_for()


def notebook(page: Page) -> None:
    """Run a cell that says where the session is."""
    page.locator(".jp-LauncherCard", has_text="Python 3").first.click()
    page.get_by_text("Python 3 | Idle").wait_for()
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.type("!echo job $SLURM_JOB_ID on $(hostname), GPUs $CUDA_VISIBLE_DEVICES; srun hostname")
    page.keyboard.press("Shift+Enter")
    page.get_by_text("[1]:").first.wait_for()


def code(page: Page) -> None:
    """Wait for Code-Server's workbench."""
    page.locator(".monaco-workbench .explorer-viewlet, .monaco-workbench .part.editor").first.wait_for()


def checked(page: Page) -> None:
    """Have the site checked, once, and wait for what is found."""
    if page.get_by_role("button", name="Check the site").count():
        page.get_by_role("button", name="Check the site").click()
    page.get_by_role("button", name="Check again").wait_for()


def cluster(page: Page) -> None:
    """Wait for the chart."""
    page.locator("canvas").first.wait_for()


def live(page: Page) -> None:
    """Wait for what comes from the service."""
    page.get_by_role("heading", name="Messages").wait_for()
    page.locator("canvas").first.wait_for()


SHOTS = [
    Shot("login", "", "/hub/login"),
    Shot("enrol-start", "", "/hub/enrol"),
    Shot("enrol", "", "/hub/enrol", enrol),
    Shot("course", "ines", "/hub/spawn"),
    Shot("home-student", "ines", "/hub/home", live),
    Shot("spawn", "rosa", "/hub/spawn/rosa/next", also=("dark", "phone")),
    Shot("spawn-more", "rosa", "/hub/spawn/rosa/next", unfold),
    Shot("waiting", "rosa", "/hub/spawn-pending/rosa/train"),
    Shot("home", "rosa", "/hub/home", live, also=("dark", "phone")),
    Shot("details", "rosa", "/hub/home", details),
    Shot("failed", "rosa", "/hub/spawn-pending/rosa/tests"),
    Shot("history", "rosa", "/hub/history"),
    Shot("messages", "rosa", "/services/carme/messages"),
    Shot("lab-launcher", "rosa", "/user/rosa/lab?reset", lab),
    Shot("lab", "rosa", "/user/rosa/lab?reset", notebook),
    Shot("code-server", "rosa", "/user/rosa/code-server/", code),
    Shot("cluster", "rosa", "/services/carme/cluster", cluster),
    Shot("token", "rosa", "/hub/token"),
    Shot("account", "rosa", "/hub/account"),
    Shot("not-found", "rosa", "/hub/no-such-page"),
    Shot("people", "adam", "/hub/admin/people"),
    Shot("person", "adam", "/hub/admin/people/rosa"),
    Shot("audit", "adam", "/hub/admin/audit"),
    Shot("sessions", "adam", "/hub/admin/sessions"),
    Shot("use", "adam", "/hub/admin/use"),
    Shot("announcements", "adam", "/hub/admin/announcements"),
    Shot("maintenance", "adam", "/services/carme/admin/maintenance"),
    Shot("site", "adam", "/hub/admin/site", checked),
    Shot("person-use", "adam", "/services/carme/admin/people/rosa"),
    Shot("hub-admin", "adam", "/hub/admin"),
]


def ask(person: Person, name: str = "", **options: object) -> None:
    """Ask for a session, with a name or without."""
    path = f"/users/{person.username}/servers/{name}" if name else f"/users/{person.username}/server"
    answer = person.api("POST", path, json=options)
    assert answer.status_code in {201, 202}, answer.text


def state(person: Person, name: str) -> dict[str, object]:
    """Return the hub's picture of one of somebody's sessions; empty without one."""
    servers = person.api("GET", f"/users/{person.username}").json()["servers"]
    found: dict[str, object] = servers.get(name, {})
    return found


def remove(person: Person, name: str) -> None:
    """End a session, and forget its name."""

    def gone() -> bool:
        path = f"/users/{person.username}/servers/{name}"
        return person.api("DELETE", path, json={"remove": True}).status_code in {404, 204}

    until(gone, f"the end of {person.username}'s session {name}")


@contextlib.contextmanager
def people_at_work(site: Site) -> Iterator[None]:
    """Sessions that run, wait, have ended and have failed."""
    people = {name: site.login(name) for name in ("rosa", "ravi", "mia", "noah", "ines", "adam")}
    rosa = people["rosa"]

    def clear() -> None:
        for name in ("train", "tests", "notes"):
            remove(rosa, name)
        for person in people.values():
            person.end_session()

    clear()
    config = "/srv/home/rosa/.jupyter/jupyter_server_config.py"
    site.run(
        "bash", "-c", f"mkdir -p ~/.jupyter && echo 'greedy = bytearray(3 << 30)' > {config}", user="rosa"
    )
    try:
        ask(rosa, "tests", profile="cpu", time="1:00:00")
        until(lambda: not state(rosa, "tests").get("pending"), "the end of the session that fails")
    finally:
        site.run("rm", "-f", config, user="rosa")
    people["noah"].start(profile="ml101")
    people["noah"].end_session()
    ask(people["ravi"], profile="gpu", gpus=4, nodes=1, time="8:00:00")
    ask(people["mia"], profile="ml101")
    ask(rosa, profile="gpu", gpus=2, nodes=1, time="2:00:00")
    ask(rosa, "notes", profile="cpu", time="4:00:00")
    until(lambda: state(rosa, "").get("ready") and state(rosa, "notes").get("ready"), "rosa's sessions")
    # More than is left: it waits.
    ask(rosa, "train", profile="gpu", gpus=4, nodes=2, time="12:00:00")
    until(lambda: len(site.jobs("rosa")) == 3, "the job that waits")
    yield
    clear()


def small(picture: bytes) -> bytes:
    """Return a picture with as many colours as leave it small; a page has few."""
    with Image.open(io.BytesIO(picture)) as image:
        plain = image.convert("RGB")
    for colours in (256, 128, 64, 32):
        made = io.BytesIO()
        plain.quantize(colours, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(
            made, "PNG", optimize=True
        )
        if made.tell() <= LARGEST:
            break
    return made.getvalue()


def take(shot: Shot, page: Page, folder: Path) -> None:
    """Take the pictures of one page."""
    page.set_viewport_size(DESK)
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    page.goto(shot.path)
    shot.ready(page)
    for variant, size, scheme in (
        ("light", DESK, "light"),
        ("dark", DESK, "dark"),
        ("phone", PHONE, "light"),
        ("phone-dark", PHONE, "dark"),
    ):
        page.set_viewport_size(size)
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        # The hub's own event streams stay open, so that a page is never idle: what is drawn counts.
        page.evaluate("() => document.fonts.ready")
        picture = page.screenshot(full_page=True, animations="disabled")
        (folder / f"{shot.name}-{variant}.png").write_bytes(picture)
        if variant == "light" or variant in shot.also:
            name = shot.name if variant == "light" else f"{shot.name}-{variant}"
            (DOCS / f"{name}.png").write_bytes(small(picture))


def visitors(browser: Browser, site: Site) -> Callable[[str], Page]:
    """Return what gives each person's page, logged in when first asked for."""
    known: dict[str, BrowserContext] = {}

    def page_of(person: str) -> Page:
        if person not in known:
            known[person] = browser.new_context(base_url=site.hub_url)
            known[person].set_default_timeout(PATIENCE)
            page = known[person].new_page()
            if person:
                log_in(site, page, person)
        return known[person].pages[0]

    return page_of


def announce(page: Page) -> None:
    """Have some news."""
    title = "New GPUs on node3"
    page.goto("/hub/admin/announcements")
    if page.get_by_text(title).count():
        return
    page.get_by_label("Title").fill(title)
    page.get_by_label("Text", exact=True).fill(
        "From Monday on, *node3* has four more GPUs. The profile **GPU session** offers them by itself."
    )
    page.get_by_label("Title").press("Enter")
    page.get_by_text("It is announced").wait_for()


def main() -> None:
    """Take the pictures."""
    parser = argparse.ArgumentParser(prog="python -m tests.screens", description=__doc__)
    parser.add_argument("names", nargs="*", help="pictures to take; all, if none is named")
    parser.add_argument("--empty", action="store_true", help="start no sessions; take the site as it is")
    args = parser.parse_args()
    site = Site.running()
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        contextlib.nullcontext() if args.empty else people_at_work(site),
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--hide-scrollbars"],
        )
        page_of = visitors(browser, site)
        announce(page_of("adam"))
        for shot in SHOTS:
            if not args.names or shot.name in args.names:
                print(shot.name, flush=True)  # noqa: T201 - progress is what it is for
                take(shot, page_of(shot.person), FOLDER)
        browser.close()


if __name__ == "__main__":
    main()
