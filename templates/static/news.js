// News and messages of the home page, as the service tells them. The page has the places and all sentences.
import { clock } from "./times.js";

const MOST = 5; // messages; the others are on their own page
const LEVELS = ["info", "success", "warning", "danger"];

/** The nodes of HTML that the service has made and cleaned (carme_hub/service/markdown.py); no script runs in it. */
export function nodesOf(html) {
  return [...new DOMParser().parseFromString(html, "text/html").body.childNodes].map((node) => document.adoptNode(node));
}

function setTime(element, moment) {
  element.dateTime = new Date(moment * 1000).toISOString();
  element.textContent = clock(moment);
}

function showLevel(item, level) {
  const known = LEVELS.includes(level) ? level : "info";
  for (const mark of item.querySelectorAll("[data-level]")) {
    mark.hidden = mark.dataset.level !== known;
  }
}

/** Fill a box's list from its template, and say so when there is nothing. */
function fill(box, things, draw) {
  const template = box.querySelector("template");
  const items = things.map((one) => {
    const item = template.content.firstElementChild.cloneNode(true);
    draw(item, one);
    return item;
  });
  const list = box.querySelector("[data-list]");
  list.replaceChildren(...items);
  list.hidden = items.length === 0;
  box.querySelector("[data-empty]").hidden = items.length > 0;
  box.hidden = false;
}

/** Show what everybody is told. */
export function showNews({ announcements, maintenance }) {
  const banner = document.querySelector("[data-maintenance]");
  if (banner) {
    banner.querySelector("[data-maintenance-text]").textContent = maintenance.text;
    banner.querySelector("[data-maintenance-usual]").hidden = Boolean(maintenance.text);
    banner.hidden = !maintenance.on;
  }
  const box = document.querySelector("[data-news]");
  if (!box) return;
  fill(box, announcements, (item, one) => {
    item.querySelector("[data-title]").textContent = one.title;
    item.querySelector("[data-body]").replaceChildren(...nodesOf(one.html));
    setTime(item.querySelector("[data-at]"), one.starts);
    showLevel(item, one.level);
    if (one.ends !== null) {
      setTime(item.querySelector("[data-ends]"), one.ends);
      item.querySelector("[data-until]").hidden = false;
    }
  });
}

async function markRead(box, ids) {
  const meta = document.querySelector("meta[name=carme-service]");
  try {
    await fetch(`${meta.content}api/notices/read`, {
      method: "POST",
      headers: { "X-XSRFToken": meta.dataset.xsrf, "Content-Type": "application/json" },
      body: JSON.stringify({ ids }),
    }); // what is left comes over the stream
  } catch (error) {
    console.info("Messages:", error); // they stay, and the button with them
  }
  box.querySelector("[data-read]").disabled = false;
}

/** Show what its reader has not read. */
export function showMessages({ count, notices }) {
  const box = document.querySelector("[data-messages]");
  if (!box) return;
  fill(box, notices.slice(0, MOST), (item, one) => {
    item.querySelector("[data-title]").textContent = one.title;
    item.querySelector("[data-text]").textContent = one.text;
    setTime(item.querySelector("[data-at]"), one.at);
    showLevel(item, one.level);
    item.querySelector("[data-read-one]").addEventListener("click", () => markRead(box, [one.id]));
  });
  const number = box.querySelector("[data-count]");
  number.textContent = count;
  number.hidden = count === 0;
  const all = box.querySelector("[data-read]");
  all.hidden = count === 0;
  all.onclick = () => {
    all.disabled = true;
    markRead(box, null);
  };
}
