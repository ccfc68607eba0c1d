// The sessions of the home page. The hub has drawn them; when something changes, the page is fetched again and its
// cards take the place of the old ones, so that there is one template for them. All sentences are the page's.
import { showCluster } from "./cluster.js";
import { live } from "./live.js";
import { showLately } from "./lately.js";
import { showUrgentMessages, showUrgentNews } from "./banner.js";
import { showMessages, showNews } from "./news.js";
import { openDetails } from "./session-details.js";
import { showLimits } from "./time-limit.js";
import { clock } from "./times.js";

const page = document.querySelector("[data-home]");
const hub = window.jhdata.base_url;
const headers = { "X-XSRFToken": window.jhdata.xsrf_token };
const SOON = 300; // milliseconds: several changes that come together are one
const LAST_WORDS = 12000; // until it is known how a session ended that ended by itself
const KIND = { pending: "waiting" };

const list = () => page.querySelector("[data-sessions]");
const cards = (within) => [...within.querySelectorAll("[data-session]")];
const stateOf = (card) => `${card.dataset.session}|${card.dataset.state}|${card.dataset.job}`;

// --- The page, fetched again ---

function say(old, fresh) {
  const before = new Map(cards(old).map((card) => [card.dataset.session, card.dataset.state]));
  const changed = cards(fresh).filter((card) => before.get(card.dataset.session) !== card.dataset.state);
  if (changed.length) {
    const words = changed.map((card) => `${card.getAttribute("aria-label")}: ${card.querySelector(".badge").textContent.trim()}`);
    page.querySelector("[data-said]").textContent = words.join(". ");
  }
}

/** What is open stays open, what has the focus keeps it. */
function carryOver(old, fresh) {
  const opened = new Map(cards(old).map((card) => [stateOf(card), card.querySelector("[data-details]")]));
  for (const card of cards(fresh)) {
    const details = opened.get(stateOf(card));
    if (details?.open) {
      card.querySelector("[data-details]")?.replaceWith(details);
    }
  }
  const another = old.querySelector(":scope > details");
  if (another?.open) {
    fresh.querySelector(":scope > details")?.replaceWith(another);
  }
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const session = focused?.closest("[data-session]")?.dataset.session;
  return () => {
    if (!focused || focused.isConnected) {
      focused?.focus();
      return;
    }
    const card = cards(fresh).find((one) => one.dataset.session === session);
    const same = card?.querySelector(`[data-key="${CSS.escape(focused.dataset.key ?? "")}"]`);
    (same ?? card)?.focus({ preventScroll: true });
  };
}

let timer;
let fetching = false;

function refresh(after = SOON) {
  clearTimeout(timer);
  timer = setTimeout(fetchPage, after);
}

async function fetchPage() {
  if (fetching || document.querySelector("dialog[open]")) {
    refresh();
    return;
  }
  fetching = true;
  try {
    const answer = await fetch(page.dataset.home, { headers, cache: "no-store" });
    if (!answer.ok || answer.redirected) return; // signed out, or the hub is away: the page stays as it is
    const made = new DOMParser().parseFromString(await answer.text(), "text/html");
    const found = made.querySelector("[data-sessions]");
    if (!found) return;
    const old = list();
    const fresh = document.adoptNode(found);
    // What a script has fetched has no proofs; this page's own, which was opened by its reader, are good for it, too.
    for (const field of fresh.querySelectorAll("input[name=_xsrf]")) field.value = window.jhdata.xsrf_token;
    const focus = carryOver(old, fresh);
    say(old, fresh);
    old.replaceWith(fresh);
    focus();
    showMoments();
    showLimits();
    showLately();
  } catch (error) {
    console.info("Home:", error);
  } finally {
    fetching = false;
  }
}

// --- What the service tells ---

function showMoments() {
  for (const element of page.querySelectorAll("time[data-moment]")) {
    if (Number(element.dataset.moment)) {
      element.textContent = clock(Number(element.dataset.moment));
    }
  }
}

function setText(card, name, text) {
  const element = card.querySelector(`[data-text="${name}"]`);
  if (element && element.textContent !== text) {
    element.textContent = text;
    element.hidden = !text;
  }
}

/** What changes within a state. */
function update(card, session) {
  setText(card, "message", session.reason_text || session.message);
  setText(card, "advice", session.advice);
  setText(card, "slurm_state", session.slurm_state);
  const bar = card.querySelector("[data-progress]");
  if (bar && session.progress !== null) {
    bar.setAttribute("aria-valuenow", session.progress);
    bar.firstElementChild.style.width = `${session.progress}%`;
  }
  const place = card.querySelector("[data-place]");
  if (place) {
    place.hidden = !session.place;
    place.querySelector("span").textContent = session.place ?? "";
  }
  const expected = card.querySelector("[data-expected]");
  if (expected) {
    expected.hidden = !session.expected_start;
    expected.querySelector("time").textContent = session.expected_start ? clock(session.expected_start) : "";
  }
}

function hearSessions(sessions) {
  showLately({ once: true });
  const active = ["starting", "waiting", "running", "suspended", "stopping"];
  const shown = cards(list());
  const seen = shown.filter((card) => active.includes(card.dataset.state)).map(stateOf).sort();
  const told = sessions.map((one) => `${one.name}|${KIND[one.state] ?? one.state}|${one.job ?? ""}`).sort();
  if (seen.join("\n") !== told.join("\n")) {
    refresh();
    if (told.length < seen.length) setTimeout(refresh, LAST_WORDS);
    return;
  }
  for (const session of sessions) {
    const card = shown.find((one) => one.dataset.session === session.name);
    update(card, session);
    // Extended, or shortened by an admin: what may be asked for now is the hub's to say.
    const limit = card.querySelector("[data-time-limit]");
    const troubles = card.querySelectorAll("[data-trouble]").length;
    if (session.state === "running" && (session.troubles ?? []).length !== troubles) refresh();
    if (session.state === "running" && session.end && limit && Number(limit.dataset.end) !== session.end) refresh();
  }
}

// --- Stop and remove ---

async function end(button) {
  const card = button.closest("[data-session]");
  const kind = button.dataset.end;
  const dialog = document.querySelector(`dialog[data-confirm=${kind}]`);
  dialog.querySelector("[data-which]").textContent = button.dataset.title;
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "yes") return;
  button.disabled = true;
  card.querySelector("[data-failed]")?.remove();
  let done = false;
  try {
    const remove = kind === "remove";
    const answer = await fetch(`${hub}api/${card.dataset.server}`, {
      method: "DELETE",
      headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify(remove ? { remove } : {}),
    });
    done = answer.ok || answer.status === 404;
  } catch (error) {
    console.info("Home:", error);
  }
  if (!done) {
    const told = document.querySelector("template[data-failed-to-end]").content.firstElementChild.cloneNode(true);
    told.dataset.failed = "";
    card.querySelector(".card-body").append(told);
    button.disabled = false;
    return;
  }
  refresh(0);
  untilSettled(10);
}

/** Without the service nobody tells that a session has ended: look for a while. */
function untilSettled(times) {
  setTimeout(() => {
    if (times && cards(list()).some((card) => card.dataset.state === "stopping")) {
      refresh(0);
      untilSettled(times - 1);
    }
  }, 2000);
}

page.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-end]");
  if (button) end(button);
});
page.addEventListener("toggle", (event) => {
  if (event.target.matches("[data-details]")) openDetails(event.target, `${hub}api/`, headers);
}, { capture: true });
// One click is enough.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-once]");
  if (form?.dataset.sent) event.preventDefault();
  else if (form) form.dataset.sent = "yes";
});

showMoments();
live({
  sessions: hearSessions,
  cluster: showCluster,
  news: (told) => {
    showNews(told);
    showUrgentNews(told);
  },
  notices: (told) => {
    showMessages(told);
    showUrgentMessages(told);
    if (told.notices.some((one) => ["ended", "failed"].includes(one.kind) && Date.now() / 1000 - one.at < 60)) refresh();
  },
  offline: (since) => {
    page.querySelector("[data-stale]").hidden = since === null;
  },
});
