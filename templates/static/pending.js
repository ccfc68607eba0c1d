// The waiting page, live: follows the hub's progress events, counts the time, and opens the session when it is
// ready. All sentences stand in the page or come with the events; they are written as text, never as HTML.
import { clock } from "./times.js";

const SECOND = 1000;
const SILENCE = 30 * SECOND; // the hub says something every 8 seconds, if only an empty line
const SOON = 1 * SECOND;
const LONGEST = 30 * SECOND;
// Of what is left of a step when its end is expected, this part is covered then; the rest only when it has ended.
const COVERED = 0.9;

const root = document.querySelector("[data-waiting]");
const words = root.dataset;
const find = (selector) => root.querySelector(selector);
const pageLanguage = document.documentElement.lang || undefined;

let event = JSON.parse(words.event);
let bar = event.progress;
let finished = false;
// The hub's clock, whatever the reader's says. All events are about its seconds.
let ahead = event.now - performance.now() / SECOND;
const now = () => performance.now() / SECOND + ahead;

// --- Time, as the reader's clock and language have it ---

function relative(seconds) {
  const size = Math.abs(seconds);
  const [unit, length] = size < 60 ? ["second", 1] : size < 3600 ? ["minute", 60] : size < 172800 ? ["hour", 3600] : ["day", 86400];
  return new Intl.RelativeTimeFormat(pageLanguage, { numeric: "always" }).format(Math.round(seconds / length), unit);
}

// --- The page ---

function write(element, text) {
  if (element.textContent !== text) {
    element.textContent = text; // a live region is read out when it changes, so only then
  }
}

function fact(name, value) {
  const box = find(`[data-fact=${name}]`);
  box.hidden = !value;
  if (value) {
    write(box.querySelector("[data-value]"), String(value));
  }
  return box;
}

function steps() {
  for (const item of root.querySelectorAll("[data-step]")) {
    const step = Number(item.dataset.step);
    item.classList.toggle("done", step < event.step);
    item.classList.toggle("current", step === event.step);
    item.classList.toggle("later", step > event.step);
    item.querySelector("[data-step-done]").hidden = step >= event.step;
    if (step === event.step) {
      item.setAttribute("aria-current", "step");
    } else {
      item.removeAttribute("aria-current");
    }
  }
}

function title() {
  const step = find(`[data-step="${event.step}"] .carme-step-name`).firstChild.textContent;
  const place = event.place ? words.place.replace("%(place)s", event.place) : step;
  document.title = `${place} · ${words.name}`;
}

function show() {
  steps();
  title();
  write(find("[data-text]"), event.text);
  const advice = find("[data-advice]");
  write(advice, event.advice);
  advice.hidden = !event.advice;
  for (const name of ["alert", "alert-warning", "mt-2"]) {
    advice.classList.toggle(name, event.hopeless);
  }
  advice.classList.toggle("text-body-secondary", !event.hopeless);
  fact("job", event.job);
  fact("place", event.place);
  fact("node", event.node);
  fact("expected", event.expected_start && clock(event.expected_start));
  fact("submitted", event.submitted && clock(event.submitted));
  for (const label of root.querySelectorAll("[data-by]")) {
    label.hidden = label.dataset.by !== event.eta_by;
  }
  tick();
}

function tick() {
  if (finished) {
    return;
  }
  let target = event.progress;
  if (event.eta) {
    const part = (now() - event.now) / Math.max(event.eta - event.now, 1);
    target += COVERED * (event.to - event.progress) * Math.min(Math.max(part, 0), 1);
  }
  bar = Math.max(bar, target);
  draw(bar);
  if (event.expected_start) {
    const left = event.expected_start - now();
    write(find("[data-fact=expected] [data-in]"), `(${left > 0 ? relative(left) : words.anyMoment})`);
  }
  if (event.submitted) {
    write(find("[data-fact=submitted] [data-in]"), `(${relative(Math.min(event.submitted - now(), 0))})`);
  }
}

function draw(percent) {
  find("[data-bar]").style.width = `${percent}%`;
  find("[role=progressbar]").setAttribute("aria-valuenow", Math.round(percent));
}

// --- The end of the wait ---

function mayNotify() {
  return "Notification" in window && Notification.permission === "granted";
}

function notify(text) {
  try {
    const told = new Notification(words.name, { body: text, tag: location.pathname });
    told.addEventListener("click", () => {
      window.focus();
      told.close();
    });
  } catch {
    // Some browsers of telephones have the permission, but not this.
  }
}

// Loading this page again leads on: to the session, or to the reason why there is none.
function leave() {
  location.reload();
}

function end(mark, short, text) {
  finished = true;
  document.title = `${mark} ${short} · ${words.name}`;
  write(find("[data-text]"), text);
  find("[data-advice]").hidden = true;
  if (document.hidden && mayNotify()) {
    // The tab says it until somebody looks: what a new page of another program says, nobody may notice.
    notify(text);
    document.addEventListener("visibilitychange", () => document.hidden || leave());
  } else {
    leave();
  }
}

function ready() {
  event.step += 1;
  steps();
  draw(100);
  find("[data-open]").hidden = false;
  end("✓", words.ready, words.readyText);
}

function take(told) {
  find("[data-offline]").hidden = true;
  if (told.ready) {
    ready();
  } else if (told.failed) {
    end("✗", words.failed, words.failedText);
  } else if (told.step !== undefined) {
    if (told.step < event.step) {
      bar = told.progress; // it fell back, and so does the bar
    }
    event = told;
    ahead = told.now - performance.now() / SECOND;
    show();
  } else {
    // Of a spawner that is not ours there is a line and a number.
    write(find("[data-text]"), told.message ?? "");
    event.progress = told.progress ?? event.progress;
    tick();
  }
}

// --- The hub's events ---

// Reads one answer to its end. EventSource would not say why an answer is none.
async function read(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done || finished) {
      return;
    }
    alive();
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith("data: ")) {
        take(JSON.parse(line.slice("data: ".length)));
      }
    }
  }
}

async function listen() {
  const silence = new AbortController();
  let timer;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE);
  };
  alive();
  try {
    const answer = await fetch(words.progressUrl, { headers: { Accept: "text/event-stream" }, signal: silence.signal });
    if (answer.ok) {
      await read(answer.body, alive);
    }
    return answer.status;
  } catch {
    return 0; // nobody answers, or not any more
  } finally {
    clearTimeout(timer);
  }
}

async function follow() {
  let pause = SOON;
  while (!finished) {
    const began = performance.now();
    const status = await listen();
    if (finished) {
      return;
    }
    if (performance.now() - began > LONGEST) {
      pause = SOON;
    }
    await new Promise((resolve) => setTimeout(resolve, pause * (0.5 + Math.random())));
    pause = Math.min(2 * pause, LONGEST);
    if (status >= 400 && status < 500 && status !== 429) {
      leave(); // it does not start any more, or somebody has to log in: the page knows
      return;
    }
    find("[data-offline]").hidden = status === 200;
  }
}

// The answer to this form leads on; the end of the start, which comes before, must not load the page meanwhile.
find("[data-cancel]").addEventListener("submit", () => {
  finished = true;
});

// --- The browser's notification: asked for by a click only ---

const button = find("[data-notify]");

function permission() {
  const state = "Notification" in window && isSecureContext ? Notification.permission : "none";
  button.hidden = state !== "default";
  for (const said of root.querySelectorAll("[data-notify-said]")) {
    said.hidden = said.dataset.notifySaid !== state;
  }
}

button.addEventListener("click", async () => {
  await Notification.requestPermission();
  permission();
});

permission();
show();
setInterval(tick, SECOND);
follow();
