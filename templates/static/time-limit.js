// Counts down the time limits that the page shows, in the reader's time. Without it they are right when the page
// is loaded. Those that come into the page later count, too.
import { clock, words } from "./times.js";

const EVERY = 5000; // milliseconds

function show(box) {
  const now = Date.now() / 1000;
  const { start, end, warn, soon, units } = box.dataset;
  const left = Math.max(Number(end) - now, 0);
  const near = left <= Number(warn);
  box.querySelector("[data-clock]").textContent = clock(Number(end));
  box.querySelector("[data-left]").textContent = words(left, soon, units);
  const bar = box.querySelector("[data-used]");
  const used = Math.round(Math.min(Math.max((now - start) / Math.max(end - start, 1), 0), 1) * 100);
  bar.setAttribute("aria-valuenow", used);
  bar.firstElementChild.style.width = `${used}%`;
  bar.firstElementChild.classList.toggle("bg-warning", near);
  const line = box.querySelector("[data-line]");
  if (line.classList.contains("alert") !== near) {
    for (const name of ["alert", "alert-warning", "py-2", "px-3"]) {
      line.classList.toggle(name, near);
    }
    box.querySelector("[data-advice]").hidden = !near;
    if (near) {
      line.setAttribute("role", "alert");
    } else {
      line.removeAttribute("role");
    }
  }
}

/** Show all time limits as they are now: on a page, and at once when some came into it. */
export function showLimits() {
  for (const box of document.querySelectorAll("[data-time-limit]")) {
    show(box);
  }
}

showLimits();
setInterval(showLimits, EVERY);
// One click is enough; a second one would ask for the same limit again.
document.addEventListener("submit", (event) => {
  const form = event.target.closest("[data-extend]");
  if (form?.dataset.sent) {
    event.preventDefault();
  } else if (form) {
    form.dataset.sent = "yes";
  }
});
// A page that was left by a click and is returned to is sent anew, with the times of now.
addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});
