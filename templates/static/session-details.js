// What is behind "Details" of a session: nodes, what it uses, the end of its log, its script. It is fetched when it
// is opened, and again as long as it is open and seen.

const AGAIN = 10000; // milliseconds
const GIGABYTE = 1024; // in megabytes, as Slurm counts them

function show(details, kind, part, whole, unit) {
  const row = details.querySelector(`[data-use=${kind}]`);
  const known = Number.isFinite(part) && whole > 0;
  row.hidden = !known;
  if (known) {
    const percent = Math.min(Math.max(Math.round((100 * part) / whole), 0), 100);
    const bar = row.querySelector("[role=progressbar]");
    bar.setAttribute("aria-valuenow", percent);
    bar.firstElementChild.style.width = `${percent}%`;
    const format = new Intl.NumberFormat(undefined, { maximumFractionDigits: part < 10 ? 1 : 0 });
    const text = unit === "%" ? `${percent} %` : `${format.format(part)} / ${format.format(whole)}${unit}`;
    row.querySelector("[data-numbers]").textContent = text;
  }
  return known;
}

/** Cores that are busy: since the last look, or at first since the start. */
function busy(details, use) {
  const now = Date.now() / 1000;
  const before = JSON.parse(details.dataset.before ?? "null") ?? { at: Number(details.dataset.start), seconds: 0 };
  if (use.cpu_seconds > before.seconds || now - before.at > 30) {
    details.dataset.cores = (use.cpu_seconds - before.seconds) / Math.max(now - before.at, 1);
    details.dataset.before = JSON.stringify({ at: now, seconds: use.cpu_seconds });
  }
  return Number(details.dataset.cores);
}

function showUse(details, use) {
  const { cpus, memory, gpus } = details.dataset;
  const shown = use
    ? [
        show(details, "cpu", busy(details, use), Number(cpus), ""),
        show(details, "memory", use.memory_peak / GIGABYTE, Number(memory) / GIGABYTE, " GiB"),
        show(details, "gpu", use.gpu_utilisation ?? NaN, 100 * Number(gpus), "%"),
      ]
    : [];
  details.querySelector("[data-part=use]").hidden = !shown.some(Boolean);
}

function showText(details, name, text) {
  details.querySelector(`[data-part=${name}]`).hidden = !text;
  const place = details.querySelector(`[data-detail=${name}]`);
  if (place.textContent !== text) {
    const atEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 5;
    place.textContent = text;
    if (name === "log" && atEnd) place.scrollTop = place.scrollHeight;
  }
}

async function load(details, api, headers) {
  const part = (name) => details.querySelector(`[data-state-of=${name}]`);
  part("loading").hidden = Boolean(details.dataset.loaded);
  try {
    const answer = await fetch(api + details.dataset.details, { headers, cache: "no-store" });
    if (!answer.ok) throw new Error(`the hub answered ${answer.status}`);
    const found = await answer.json();
    details.dataset.loaded = "yes";
    if (found.nodes?.length) details.querySelector("[data-detail=nodes]").textContent = found.nodes.join(", ");
    showUse(details, found.use);
    showText(details, "log", found.log ?? "");
    showText(details, "script", found.script ?? "");
    part("failed").hidden = true;
  } catch (error) {
    console.info("Details:", error);
    part("failed").hidden = false;
  }
  part("loading").hidden = true;
}

/** Fetch what belongs into an opened element, and go on doing so until it is closed or taken out of the page. */
export async function openDetails(details, api, headers) {
  if (!details.open || details.dataset.reading) return;
  details.dataset.reading = "yes";
  while (details.open && details.isConnected) {
    if (!document.hidden) await load(details, api, headers);
    await new Promise((done) => setTimeout(done, AGAIN));
  }
  delete details.dataset.reading;
}
