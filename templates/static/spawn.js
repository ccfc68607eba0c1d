// The start page's additions: totals that follow the fields, Slurm's estimate for exactly this request, times to
// click, a link, a search. Without it the page starts sessions just the same.
import { language } from "./times.js";

const DEBOUNCE = 600; // milliseconds without a change before Slurm is asked
const STALE = 10000; // milliseconds after which an answer is asked for anew before the click
const PATIENCE = 15000; // milliseconds for an answer

const page = document.querySelector("[data-spawn]");
const say = page.querySelector("[data-sentences]").dataset;
const xsrf = window.jhdata?.xsrf_token ?? "";

const fill = (sentence, values) => sentence.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const count = (number, one, many) => fill(number === 1 ? one : many, { num: number });

// --- What the fields come to; carme_hub/spawner/form.py (Card.totals) has the same rules ---

function mebibytes(text) {
  const match = /^(\d{1,12})([KMGT]?)$/i.exec(text);
  const size = { K: 1 / 1024, "": 1, M: 1, G: 1024, T: 1024 ** 2 };
  return match ? Math.ceil(Number(match[1]) * size[match[2].toUpperCase()]) : NaN;
}

function memoryText(amount) {
  for (const [unit, size] of [["TiB", 1024 ** 2], ["GiB", 1024]]) {
    if (amount >= size) {
      return `${(amount / size).toFixed(1).replace(/\.0$/, "")} ${unit}`;
    }
  }
  return `${amount} MiB`;
}

function number(form, name, fixed) {
  const field = form.elements[name];
  const text = field ? field.value : fixed;
  return /^\d{1,9}$/.test(text) ? Number(text) : NaN;
}

function showTotals(form) {
  const size = form.querySelector("[data-size]");
  if (!size) {
    return;
  }
  const fixed = form.dataset;
  const nodes = number(form, "nodes", fixed.nodes);
  const gpus = number(form, "gpus", "0");
  const tasks = number(form, "tasks", fixed.tasks);
  const cpus = nodes * (fixed.cpusPerGpu ? Number(fixed.cpusPerGpu) * gpus : tasks * number(form, "cpus", fixed.cpus));
  let memory = Number(fixed.memory || 0);
  if (fixed.memoryPerGpu) {
    memory = Number(fixed.memoryPerGpu) * gpus;
  } else if (form.elements.memory) {
    memory = mebibytes(form.elements.memory.value);
  }
  const holds = form.querySelector("[data-holds]");
  if ([nodes, gpus, cpus, memory].some(Number.isNaN)) {
    size.textContent = holds.textContent = "";
    return;
  }
  const cores = count(cpus, say.core, say.cores);
  const head = [];
  if (nodes > 1) {
    head.push(count(nodes, say.node, say.nodes));
  }
  if (gpus) {
    head.push(count(gpus, say.gpu, say.gpus));
  }
  size.textContent = head.join(" × ") || cores;
  const rest = head.length ? [cores] : [];
  if (memory) {
    rest.push(memoryText(nodes * memory));
  }
  holds.textContent = rest.join(", ") + (nodes > 1 ? ` ${say.inAll}` : "");
}

// --- What is wrong, at its field ---

function showError(form, option, sentence) {
  const field = form.elements[option];
  const place = form.querySelector(`[data-error="${CSS.escape(option)}"]`);
  if (!field || !place) {
    return false;
  }
  place.textContent = sentence;
  place.classList.toggle("d-block", sentence !== "");
  field.classList.toggle("is-invalid", sentence !== "");
  if (sentence) {
    field.setAttribute("aria-invalid", "true");
    field.closest(".carme-advanced")?.setAttribute("open", "");
  } else {
    field.removeAttribute("aria-invalid");
  }
  return true;
}

function clearErrors(form) {
  for (const place of form.querySelectorAll("[data-error]")) {
    showError(form, place.dataset.error, "");
  }
}

// --- Slurm's estimate ---

function options(form) {
  const found = {};
  for (const [name, value] of new FormData(form)) {
    if (value !== "" && name !== "_xsrf") {
      found[name] = value;
    }
  }
  return found;
}

function tell(form, icon, title, text = "") {
  const box = form.querySelector("[data-estimate]");
  const line = document.createElement("span");
  const mark = document.createElement("i");
  mark.className = `fa fa-fw me-1 ${icon}`;
  mark.setAttribute("aria-hidden", "true");
  const words = document.createElement("strong");
  words.textContent = title;
  line.append(mark, words);
  const more = document.createElement("span");
  more.className = "d-block text-body-secondary";
  more.textContent = text;
  box.replaceChildren(...(title ? [line] : []), ...(text ? [more] : []));
  box.hidden = false;
}

function when(start) {
  const seconds = start - Date.now() / 1000;
  const [amount, unit] = seconds < 5400 ? [seconds / 60, "minute"] : seconds < 129600 ? [seconds / 3600, "hour"] : [seconds / 86400, "day"];
  const date = new Date(start * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return {
    when: new Intl.RelativeTimeFormat(undefined, { numeric: "always" }).format(Math.round(amount), unit),
    clock: new Intl.DateTimeFormat(language, today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" }).format(date),
  };
}

function showAnswer(form, answer) {
  const where = answer.nodes && fill(answer.partition ? say.wherePartition : say.where, answer);
  if (answer.start === null) {
    tell(form, "fa-circle-question text-warning", say.unknown, answer.sentence);
  } else if (answer.start <= Date.now() / 1000 + 60) {
    tell(form, "fa-bolt text-success", say.now, where || answer.sentence);
  } else {
    tell(form, "fa-hourglass-half text-warning", fill(say.later, when(answer.start)), where || answer.sentence);
  }
}

// Where Slurm cannot tell, the service's forecast may: by the time limits of all that runs and waits.
async function askForecast(form, answer, own) {
  const service = document.querySelector("meta[name=carme-service]");
  if (!service || !answer.asked) {
    return;
  }
  try {
    const address = `${service.content}api/start?${new URLSearchParams(answer.asked)}`;
    const response = await fetch(address, { headers: { "X-XSRFToken": service.dataset.xsrf }, cache: "no-store", signal: own.signal });
    const { start } = response.ok ? await response.json() : { start: null };
    if (start !== null && asking === own) {
      tell(form, "fa-hourglass-half text-warning", fill(say.atTheLatest, when(start)), say.fromLimits);
    }
  } catch {
    // The service is away, or the question is an old one: what Slurm said stands there.
  }
}

// One question at a time on the whole page: the newest. A newer one ends the one that is open.
let asking = null;
let due = 0;
const answered = new WeakMap(); // form -> { question, at }

function askSoon(form, delay = DEBOUNCE) {
  if (!page.dataset.estimates) {
    return;
  }
  clearTimeout(due);
  asking?.abort();
  asking = null;
  due = setTimeout(() => ask(form), delay);
}

async function ask(form) {
  const question = JSON.stringify(options(form));
  const own = new AbortController();
  asking = own;
  const giveUp = setTimeout(() => own.abort(), PATIENCE);
  form.querySelector("[data-estimate]").setAttribute("aria-busy", "true");
  try {
    const response = await fetch(page.dataset.estimates, {
      method: "POST",
      body: question,
      headers: { "Content-Type": "application/json", "X-XSRFToken": xsrf },
      signal: own.signal,
    });
    if (response.status === 429) {
      askSoon(form, Math.max(Number(response.headers.get("Retry-After")) || 1, 1) * 1000);
      return;
    }
    const answer = await response.json();
    if (asking !== own) {
      return;
    }
    clearErrors(form);
    if (response.ok) {
      answered.set(form, { question, at: Date.now() });
      showAnswer(form, answer);
      if (answer.start === null) {
        await askForecast(form, answer, own);
      }
    } else if (response.status === 400 && answer.short) {
      const all = (answer.mistakes ?? [answer]).map(({ field, short }) => showError(form, field, short));
      tell(form, "fa-circle-exclamation text-danger", say.refused, all.every(Boolean) ? "" : answer.sentence);
    } else {
      tell(form, "fa-circle-question text-body-secondary", "", answer.sentence || say.failed);
    }
  } catch (error) {
    if (asking === own) {
      tell(form, "fa-circle-question text-body-secondary", "", say.failed);
    }
  } finally {
    clearTimeout(giveUp);
    if (asking === own) {
      asking = null;
    }
    form.querySelector("[data-estimate]").removeAttribute("aria-busy");
  }
}

// The hub takes an answer of the last seconds for the click itself: who comes near Start has a fresh one by then.
function refresh(form) {
  const known = answered.get(form);
  const old = !known || known.question !== JSON.stringify(options(form)) || Date.now() - known.at > STALE;
  if (old && !asking && !form.dataset.sent) {
    askSoon(form, 0);
  }
}

// --- The link ---

function link(form) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(options(form))) {
    query.append(`opt-${name}`, value);
  }
  return `${location.origin}${page.dataset.link}?${query}`;
}

async function copyLink(form, button) {
  const text = link(form);
  try {
    await navigator.clipboard.writeText(text);
    const label = button.querySelector("span");
    const before = label.textContent;
    label.textContent = say.copied;
    setTimeout(() => { label.textContent = before; }, 2000);
  } catch {
    // Browsers lend out the clipboard on pages that came over HTTPS only.
    const place = form.querySelector("[data-link-text]");
    place.value = text;
    place.hidden = false;
    place.select();
  }
}

// --- All forms ---

for (const form of page.querySelectorAll("[data-form]")) {
  const start = form.querySelector("[data-start]");
  const label = start.textContent;
  const changed = () => {
    showTotals(form);
    if (![...form.elements].some((field) => field.required && field.value === "")) { // else: half typed
      askSoon(form);
    }
  };
  form.addEventListener("input", changed);
  start.addEventListener("pointerenter", () => refresh(form));
  start.addEventListener("focus", () => refresh(form));
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) {
      event.preventDefault(); // one click is enough
      return;
    }
    form.dataset.sent = "yes";
    clearTimeout(due);
    asking?.abort();
    asking = null;
    start.textContent = say.starting;
    start.classList.add("disabled");
  });
  addEventListener("pageshow", (event) => {
    if (event.persisted) {
      delete form.dataset.sent;
      start.textContent = label;
      start.classList.remove("disabled");
    }
  });
  const times = form.querySelector("[data-times]");
  if (times) {
    times.hidden = false;
    times.addEventListener("click", (event) => {
      if (event.target.value) {
        form.elements.time.value = event.target.value;
        changed();
      }
    });
  }
  const button = form.querySelector("[data-copy-link]");
  if (button) {
    button.hidden = false;
    button.addEventListener("click", () => copyLink(form, button));
  }
  const card = form.closest("details");
  card?.addEventListener("toggle", () => {
    if (card.open && !form.querySelector("[aria-invalid]") && !answered.has(form)) {
      askSoon(form);
    }
  });
  // The one that is open already: its estimate, unless the hub has just said what is wrong with it.
  if (card?.open) {
    showTotals(form);
    if (!form.querySelector("[aria-invalid]")) {
      askSoon(form, 0);
    }
  }
}

// --- Many profiles ---

const search = page.querySelector("[data-search]");
if (search) {
  search.hidden = false;
  const cards = [...page.querySelectorAll("[data-card]")].map((card) => [
    card,
    [...card.querySelectorAll("[data-words]")].map((words) => words.textContent).join(" ").toLowerCase(),
  ]);
  search.querySelector("input").addEventListener("input", (event) => {
    const words = event.target.value.toLowerCase().split(/\s+/);
    for (const [card, text] of cards) {
      card.hidden = !words.every((word) => text.includes(word));
    }
    search.querySelector("[data-search-none]").hidden = cards.some(([card]) => !card.hidden);
  });
}
