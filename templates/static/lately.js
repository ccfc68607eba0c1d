// The reader's sessions that ended last, with the way to the same once more. The page has the place and all sentences.
import { clock } from "./times.js";

let asked = false;

function draw(template, one) {
  const item = template.content.firstElementChild.cloneNode(true);
  const text = (name, words) => { item.querySelector(`[data-${name}]`).textContent = words; };
  text("name", one.name || one.title);
  text("what", one.name ? `${one.title} · ${one.image}` : one.image);
  text("ended", clock(one.ended));
  text("lasted", one.lasted);
  text("sentence", one.sentence);
  text("which", `${one.name || one.title} ${one.job}`);
  item.querySelector("[data-ran]").hidden = !one.lasted;
  const badge = item.querySelector(`[data-kind="${CSS.escape(one.kind)}"]`) ?? item.querySelector("[data-kind=other]");
  badge.hidden = false;
  const again = item.querySelector("[data-again]");
  again.hidden = !one.again;
  if (one.again) again.href = window.jhdata.base_url + one.again;
  return item;
}

/** Show what the service says of them; with `once`, unless that was asked for already. */
export async function showLately({ once = false } = {}) {
  const box = document.querySelector("[data-lately]");
  const meta = document.querySelector("meta[name=carme-service]");
  if (!box || !meta || (once && asked)) return;
  asked = true;
  try {
    const answer = await fetch(`${meta.content}api/lately`, { headers: { "X-XSRFToken": meta.dataset.xsrf }, cache: "no-store" });
    if (!answer.ok) return;
    const items = (await answer.json()).map((one) => draw(box.querySelector("template"), one));
    box.querySelector("[data-list]").replaceChildren(...items);
    box.hidden = items.length === 0;
  } catch (error) {
    console.info("Lately:", error); // the service is away: what is shown stays
  }
}
