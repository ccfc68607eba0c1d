"""In a real browser: what a script on a session's page can get of the hub, and what a copied login opens."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_walk import PATIENCE, log_in
from tests.support import until

WHO = "ravi"
# What a script on a page of a session tries. Each returns what it got; the hub's proofs are in none of it.
TRIES = """async () => {
  const got = {};
  const late = () => new Promise((resolve) => setTimeout(() => resolve("nothing"), 5000));
  const told = async (name, tried) => {
    try { got[name] = await Promise.race([tried(), late()]); } catch (error) { got[name] = String(error); }
  };
  for (const mode of ["cors", "no-cors", "same-origin"]) {
    for (const page of ["/hub/home", "/hub/token", "/hub/account", "/hub/login", "/services/carme/history"]) {
      await told(`${mode} ${page}`, async () => (await fetch(page, { mode })).text());
    }
  }
  await told("frame", () => new Promise((resolve) => {
    const frame = document.createElement("iframe");
    frame.onload = () => resolve(frame.contentDocument?.documentElement.outerHTML ?? "nothing");
    frame.src = "/hub/home";
    document.body.append(frame);
  }));
  await told("window", () => new Promise((resolve) => {
    const opened = window.open("/hub/home");
    setTimeout(() => resolve(opened?.document?.documentElement.outerHTML ?? "nothing"), 3000);
  }));
  await told("cookies", async () => {
    const before = location.href;
    history.pushState(null, "", "/hub/home");
    const cookies = document.cookie;
    history.pushState(null, "", before);
    return cookies;
  });
  return got;
}"""
PROOF = re.compile(r'(?:name="_xsrf"\s+value=|xsrf_token:\s*|data-xsrf=)"([^"]{8,})"|\b_xsrf=([^;]{8,})')
MAKE = """async (proof) => {
  const headers = { "Content-Type": "application/json", "X-XSRFToken": proof };
  return (await fetch("/hub/api/users/ravi/tokens", { method: "POST", body: "{}", headers })).status;
}"""
WORKER = """async (script) => {
  const late = new Promise((resolve) => setTimeout(() => resolve("nothing"), 5000));
  const tried = navigator.serviceWorker.register(script, { scope: "/hub/" }).then(() => "registered", String);
  return Promise.race([tried, late]);
}"""


@pytest.fixture(scope="module")
def ravi(site):
    person = site.login(WHO)
    person.end_session()
    person.start(profile="cpu")
    yield person
    person.end_session()


@pytest.mark.usefixtures("ravi")
def test_a4_a_script_of_a_session_gets_no_proof_of_the_hub(site, page):
    log_in(site, page, WHO)
    page.goto(f"/user/{WHO}/lab", wait_until="domcontentloaded")
    got = page.evaluate(TRIES)
    hub = [
        cookie for cookie in page.context.cookies() if cookie["name"] == "_xsrf" and cookie["path"] == "/hub/"
    ]
    assert hub, "this browser has no proof that could be told"
    found = {name: PROOF.findall(text) for name, text in got.items() if name != "cookies"}
    assert not {name: proofs for name, proofs in found.items() if proofs}
    assert all(hub[0]["value"] not in text for text in got.values()), got["cookies"]
    assert page.evaluate(MAKE, "") == 403
    for script in ("/hub/static/js/home.js", "/hub/home", "/hub/api/"):
        assert "registered" not in page.evaluate(WORKER, script)
    # The hub's own page has it, and can act.
    page.goto("/hub/home")
    expect(page.locator("main, body").first).to_be_visible()
    assert page.evaluate("window.jhdata.xsrf_token")


@pytest.mark.usefixtures("ravi")
def test_a8_a_copied_login_opens_nothing_after_signing_out(site, page, browser):
    log_in(site, page, WHO)
    page.goto(f"/user/{WHO}/lab", wait_until="domcontentloaded")
    with (
        browser.new_context(base_url=site.hub_url) as thief,
        browser.new_context(base_url=site.hub_url) as other,
    ):
        for context in (thief, other):
            context.set_default_timeout(PATIENCE)
        elsewhere = other.new_page()
        log_in(site, elsewhere, WHO)
        thief.add_cookies(page.context.cookies())
        doors = ["/hub/home", f"/user/{WHO}/lab", f"/user/{WHO}/api/contents", "/services/carme/history"]

        def opens(context, door: str) -> bool:
            # With the browser's cookies, and without drawing what it gets.
            answer = context.request.get(door, timeout=PATIENCE)
            return answer.ok and "/hub/login" not in answer.url

        assert all(opens(thief, door) for door in doors[:2] + doors[3:])
        # A link on another site only asks.
        link = "data:text/html,<a href='" + site.hub_url + "/hub/logout'>look</a>"
        page.goto(link)
        page.get_by_role("link", name="look").click()
        expect(page.get_by_role("heading", name="Sign out?")).to_be_visible()
        page.goto("/hub/home")
        expect(page).to_have_url(re.compile("/hub/home"))
        page.goto("/hub/logout")
        page.wait_for_url("**/hub/login*")
        assert not opens(thief, "/hub/home")
        until(lambda: not any(opens(thief, door) for door in doors), "the end of the copy", 20)
        assert opens(other, "/hub/home"), "another browser of theirs was signed out, too"
