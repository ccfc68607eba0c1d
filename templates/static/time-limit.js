// Counts down the time limits that the page shows, in the reader's time. Without it they are right when the page
// is loaded.
const SECOND = 1000;

// The page has the words: data-soon for less than a minute, data-units for days, hours, minutes.
function words(seconds, box) {
  if (seconds < 60) {
    return box.dataset.soon;
  }
  const [day, hour, minute] = box.dataset.units.split(" ");
  const minutes = Math.floor(seconds / 60);
  const parts = [
    [Math.floor(minutes / 1440), day],
    [Math.floor((minutes % 1440) / 60), hour],
    [minutes % 60, minute],
  ];
  return parts.filter(([number]) => number).map(([number, unit]) => `${number} ${unit}`).join(" ");
}

function clock(end) {
  const today = new Date().toDateString() === end.toDateString();
  const style = today ? { timeStyle: "short" } : { dateStyle: "medium", timeStyle: "short" };
  return new Intl.DateTimeFormat(undefined, style).format(end);
}

function show(box) {
  const left = Number(box.dataset.end) - Date.now() / SECOND;
  const line = box.querySelector("[data-line]");
  box.querySelector("[data-clock]").textContent = clock(new Date(Number(box.dataset.end) * SECOND));
  box.querySelector("[data-left]").textContent = words(Math.max(left, 0), box);
  if (left <= Number(box.dataset.warn) && !line.classList.contains("alert")) {
    line.classList.add("alert", "alert-warning");
    line.setAttribute("role", "alert");
    box.querySelector("[data-advice]").hidden = false;
  }
}

const boxes = document.querySelectorAll("[data-time-limit]");
for (const box of boxes) {
  show(box);
  setInterval(show, 5 * SECOND, box);
  // One click is enough; a second one would ask for the same limit again.
  box.querySelector("[data-extend]")?.addEventListener("submit", (event) => {
    if (box.dataset.sent) {
      event.preventDefault();
    }
    box.dataset.sent = "yes";
  });
}
// A page that was left by a click and is returned to is sent anew, with the times of now.
addEventListener("pageshow", (event) => {
  if (event.persisted) {
    location.reload();
  }
});
