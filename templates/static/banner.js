// What is important stands above everything on every page: announcements, and messages that were not read yet.
// A page without a stream of its own asks once; the home page hears it over its stream (news.js).
import { nodesOf } from "./news.js";

const box = document.querySelector("[data-urgent]");
const meta = document.querySelector("meta[name=carme-service]");
const headers = { "X-XSRFToken": meta?.dataset.xsrf };
const shown = { news: [], notices: [] };

function draw() {
  const items = [...shown.news, ...shown.notices].map((one) => {
    const item = box.querySelector("template").content.firstElementChild.cloneNode(true);
    item.querySelector("[data-title]").textContent = one.title;
    item.querySelector("[data-body]").replaceChildren(...(one.html === undefined ? [one.text] : nodesOf(one.html)));
    const close = item.querySelector("[data-dismiss]");
    close.hidden = one.html !== undefined; // an announcement stays as long as its author wants
    close.addEventListener("click", () => read(one.id));
    return item;
  });
  for (const old of box.querySelectorAll(":scope > :not(template)")) old.remove();
  box.append(...items);
}

async function read(id) {
  shown.notices = shown.notices.filter((one) => one.id !== id);
  draw();
  await fetch(`${meta.content}api/notices/read`, {
    method: "POST",
    headers: { ...headers, "Content-Type": "application/json" },
    body: JSON.stringify({ ids: [id] }),
  }).catch((error) => console.info("Messages:", error)); // it comes back with the next page
}

/** Show the important ones of what everybody is told. */
export function showUrgentNews({ announcements }) {
  shown.news = announcements.filter((one) => one.level === "danger");
  draw();
}

/** Show the important ones of what the reader has not read. */
export function showUrgentMessages({ notices }) {
  shown.notices = notices.filter((one) => one.level === "danger" && one.kind === "message" && !one.read);
  draw();
}

async function ask(what, show) {
  try {
    const answer = await fetch(`${meta.content}api/${what}`, { headers, cache: "no-store" });
    if (answer.ok) show(await answer.json());
  } catch (error) {
    console.info("News:", error); // the service is away: the page goes on without
  }
}

if (box && meta && !document.querySelector("[data-home]")) {
  ask("news", showUrgentNews);
  ask("notices", showUrgentMessages);
}
