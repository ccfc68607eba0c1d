// The admins' pages, which work without this, too: lists that stay fresh, "all" beside the single boxes, and times
// of forms in the reader's zone.
import { language } from "./times.js";

const EVERY = 10_000, SOON = 1_500;  // milliseconds between two looks
const clock = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });

// ---- Parts of the page that are read again: what the server wrote takes the place of what was there.

const written = new XMLSerializer();

function parts(root) {
  return new Map([...root.querySelectorAll("[data-live]")].map((element) => [element.dataset.live, element]));
}

function keepState(old, fresh) {
  for (const box of old.querySelectorAll("input[type=checkbox]:checked")) {
    const same = [...fresh.querySelectorAll("input[type=checkbox]")].find((one) => one.value === box.value);
    if (same) same.checked = true;
  }
  for (const details of old.querySelectorAll("details[id]")) {
    const same = fresh.querySelector(`#${CSS.escape(details.id)}`);
    if (same) same.open = details.open;
  }
  for (const element of fresh.querySelectorAll("time[data-local]")) {
    element.title = element.textContent;
    element.textContent = clock.format(new Date(element.dateTime));
  }
}

async function look() {
  const proof = document.querySelector("meta[name=carme-service]")?.dataset.xsrf ?? "";
  const answer = await fetch(location.href, { headers: { "X-XSRFToken": proof }, redirect: "error" });
  if (!answer.ok) return;
  // Scripts in it do not run; it is our own page, as it was when it was loaded.
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const fresh = parts(page);
  for (const [name, old] of parts(document)) {
    const found = fresh.get(name);
    const seen = found && written.serializeToString(found);
    if (!found || seen === old.dataset.liveSeen) continue;
    const focus = old.contains(document.activeElement) ? document.activeElement : null;
    keepState(old, found);
    found.dataset.liveSeen = seen;
    const adopted = document.adoptNode(found);
    old.replaceWith(adopted);
    if (focus) {
      const again = focus.id ? document.getElementById(focus.id)
        : [...adopted.querySelectorAll("a, button, summary")].find((one) => one.textContent === focus.textContent);
      again?.focus({ preventScroll: true });
    }
  }
}

function wait() {
  const soon = document.querySelector("[data-live-soon]") !== null;
  setTimeout(async () => {
    if (!document.hidden) await look().catch(() => {});  // the page stays as it is, and is looked at again
    wait();
  }, soon ? SOON : EVERY);
}

if (document.querySelector("[data-live]")) wait();

// ---- "All" and the single boxes exclude each other.

document.addEventListener("change", (event) => {
  const all = document.querySelector("[data-check-all]");
  if (!all || event.target.type !== "checkbox") return;
  const single = document.querySelectorAll("input[name=session]");
  if (event.target === all) single.forEach((box) => { box.checked = all.checked; });
  else if (!event.target.checked) all.checked = false;
});

// ---- Dates belong to the period of their own.

const period = document.getElementById("period");
for (const field of document.querySelectorAll("[data-days]")) {
  field.addEventListener("change", () => { if (period) period.value = "days"; });
}

// ---- Times of forms: shown and typed in the reader's zone, sent as seconds since 1970.

const twoDigits = (number) => String(number).padStart(2, "0");

function asLocal(seconds) {
  const at = new Date(seconds * 1000);
  const day = `${at.getFullYear()}-${twoDigits(at.getMonth() + 1)}-${twoDigits(at.getDate())}`;
  return `${day}T${twoDigits(at.getHours())}:${twoDigits(at.getMinutes())}`;
}

for (const form of document.querySelectorAll("form[data-local-times]")) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const label of form.querySelectorAll("[data-zone]")) if (zone) label.textContent = `(${zone})`;
  for (const field of form.querySelectorAll("[data-local-field]")) {
    if (field.dataset.epoch) field.value = asLocal(Number(field.dataset.epoch));
  }
  form.addEventListener("submit", () => {
    for (const field of form.querySelectorAll("[data-local-field]")) {
      const at = new Date(field.value).getTime();
      form.elements[`${field.name}_epoch`].value = Number.isNaN(at) ? "" : at / 1000;
    }
  });
}
