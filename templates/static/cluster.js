// The card of the clusters: numbers, chart and nodes, from what the service says. All sentences are the page's.
import { columns, draw } from "./chart.js";
import { clock, language } from "./times.js";

const card = document.querySelector("[data-cluster]");
const part = (name, within = card) => within.querySelector(`[data-${name}]`);
const CHART_SECONDS = 60; // between two drawings of the chart while a page is open
const HOUR = 3600;

let told; // the newest of all clusters
let chart; // of the one that is shown
let drawnAt = 0;
let nodes = []; // of the one that is shown
let fit = () => {};

/** What the page says for a word of Slurm's; the word itself where it says nothing. */
function words(list, word, fallback = word) {
  const found = card.querySelector(`template[data-words=${list}]`).content.querySelector(`[data-word="${CSS.escape(word)}"]`);
  return found ? found.textContent : fallback;
}

/** "gpu:a100" is "GPU a100". */
function nameOf(resource) {
  const [family, ...type] = resource.split(":");
  return [words("names", family), ...type].join(" ");
}

const hourOf = new Intl.DateTimeFormat(language, { weekday: "short", hour: "numeric", minute: "2-digit" });
const number = new Intl.NumberFormat(language);
const current = () => told?.clusters.find((one) => one.name === part("which").value) ?? told?.clusters[0];

async function ask(what) {
  const meta = document.querySelector("meta[name=carme-service]");
  const answer = await fetch(`${meta.content}api/${what}`, { headers: { "X-XSRFToken": meta.dataset.xsrf }, cache: "no-store" });
  if (!answer.ok) throw new Error(`api/${what}: ${answer.status}`);
  return answer.json();
}

/** Fill a list of choices; what was chosen stays chosen. */
function choices(select, values, name) {
  if ([...select.options].map((one) => one.value).join() === values.join()) return;
  const chosen = select.value;
  select.replaceChildren(...values.map((value) => new Option(name(value), value)));
  if (values.includes(chosen)) select.value = chosen;
}

// --- What there is ---

function resourceRow(one) {
  const row = card.querySelector("template[data-row=resource]").content.firstElementChild.cloneNode(true);
  const free = Math.max(one.total - one.used - one.down, 0);
  part("name", row).textContent = nameOf(one.name);
  for (const [what, value] of Object.entries({ free, total: one.total, used: one.used, down: one.down, queued: one.queued })) {
    for (const place of row.querySelectorAll(`[data-${what}]`)) place.textContent = number.format(value);
  }
  for (const place of row.querySelectorAll("[data-if]")) place.hidden = !one[place.dataset.if];
  for (const bar of row.querySelectorAll("[data-bar]")) {
    bar.style.width = `${one.total ? (100 * one[bar.dataset.bar]) / one.total : 0}%`;
  }
  return row;
}

function showAge(cluster) {
  const silent = cluster.silent_since !== null && cluster.silent_since !== undefined;
  part("silent").hidden = !silent;
  part("fresh").hidden = silent;
  if (silent) {
    const minutes = Math.max(Math.round((Date.now() / 1000 - cluster.at) / 60), 0);
    const [amount, unit] = minutes < 60 ? [minutes, "minute"] : minutes < 2880 ? [Math.round(minutes / 60), "hour"] : [Math.round(minutes / 1440), "day"];
    part("age").textContent = new Intl.RelativeTimeFormat(document.documentElement.lang || undefined, { numeric: "always" }).format(-amount, unit);
    part("age").title = clock(cluster.at);
  }
  part("at").textContent = clock(cluster.at);
  part("at").dateTime = new Date(cluster.at * 1000).toISOString();
}

function show() {
  const cluster = current();
  card.hidden = false;
  part("nothing").hidden = Boolean(cluster);
  for (const name of ["jobs", "outlook", "nodes", "fresh"]) part(name).hidden = !cluster;
  if (!cluster) return;
  part("resources").replaceChildren(...cluster.resources.map(resourceRow));
  part("running").textContent = number.format(cluster.running);
  part("pending").textContent = number.format(cluster.pending);
  part("count").textContent = number.format(cluster.nodes_total ?? cluster.nodes.length);
  choices(part("resource"), cluster.resources.map((one) => one.name), nameOf);
  showAge(cluster);
  if (cluster.nodes.length) showNodes(cluster.nodes);
  else if (part("nodes").open) fetchNodes();
  if (Date.now() / 1000 - drawnAt > CHART_SECONDS) fetchChart();
}

// --- Its nodes ---

const families = (gres) => Object.entries(gres).filter(([name]) => name.split(":")[0] === "gpu");
const sum = (pairs) => pairs.reduce((all, [, count]) => all + count, 0);

function nodeRow(node) {
  const row = card.querySelector("template[data-row=node]").content.firstElementChild.cloneNode(true);
  const colour = !node.usable ? "danger" : node.state === "idle" ? "success" : "secondary";
  const all = families(node.gres);
  part("name", row).textContent = node.name;
  part("state", row).textContent = words("states", node.state);
  part("state", row).title = node.state;
  part("state", row).classList.add(`bg-${colour}-subtle`, `text-${colour}-emphasis`, "border", `border-${colour}-subtle`);
  part("reason", row).textContent = node.reason;
  part("cpus", row).textContent = `${node.cpus_used} / ${node.cpus}`;
  part("gpus", row).textContent = all.length ? `${sum(families(node.gres_used))} / ${sum(all)}` : "–";
  part("gpus", row).title = all.map(([name, count]) => `${nameOf(name)}: ${node.gres_used[name] ?? 0} / ${count}`).join(", ");
  return row;
}

const hasFree = (node) =>
  node.usable && node.cpus > node.cpus_used && (!families(node.gres).length || sum(families(node.gres)) > sum(families(node.gres_used)));

function showNodes(list = nodes) {
  nodes = list;
  if (!part("nodes").open) return;
  const wanted = part("filter").value.trim().toLowerCase();
  const found = nodes.filter(
    (node) =>
      (!part("only-free").checked || hasFree(node)) &&
      `${node.name} ${node.state} ${words("states", node.state)} ${node.reason} ${node.partitions.join(" ")} ${Object.keys(node.gres).join(" ")}`.toLowerCase().includes(wanted),
  );
  part("rows", part("nodes")).replaceChildren(...found.map(nodeRow));
  const said = part("found").dataset.words.replace("{0}", number.format(found.length)).replace("{1}", number.format(nodes.length));
  if (part("found").textContent !== said) part("found").textContent = said;
}

let fetching = false;
async function fetchNodes() {
  if (fetching) return;
  fetching = true;
  try {
    showNodes((await ask(`nodes?cluster=${encodeURIComponent(current().name)}`)).nodes);
  } catch (error) {
    console.info("Nodes:", error);
  } finally {
    fetching = false;
  }
}

// --- The last and the next day ---

function timeRow([at, used, queued], kind) {
  const row = card.querySelector("template[data-row=time]").content.firstElementChild.cloneNode(true);
  [hourOf.format(new Date(at * 1000)), number.format(used), number.format(queued), kind].forEach((text, i) => {
    row.children[i].textContent = text;
  });
  return row;
}

/** One row for each hour. */
function hourly(points) {
  const seen = new Set();
  return points.filter(([at]) => !seen.has(Math.floor(at / HOUR)) && seen.add(Math.floor(at / HOUR)));
}

function say(values) {
  const readout = part("readout");
  if (!values) {
    readout.textContent = "";
    return;
  }
  const [at, was, will, waited, wait] = values;
  const rows = part("rows", part("as-table"));
  const kind = was === null ? rows.dataset.expected : rows.dataset.measured;
  const [used, queued] = [...card.querySelectorAll(".carme-legend li")].map((item) => item.textContent.trim());
  readout.textContent = `${hourOf.format(new Date(at * 1000))} · ${used} ${number.format(was ?? will ?? 0)} · ${queued} ${number.format(waited ?? wait ?? 0)} (${kind})`;
}

async function showChart() {
  if (!chart || !part("outlook").open) return;
  const now = chart.forecast?.as_of ?? current()?.at ?? Date.now() / 1000;
  const shown = columns(chart, part("resource").value, now);
  const rows = part("rows", part("as-table"));
  part("as-is").hidden = !shown.expected.length;
  part("no-forecast").hidden = Boolean(shown.expected.length);
  rows.replaceChildren(
    ...hourly(shown.measured).map((point) => timeRow(point, rows.dataset.measured)),
    ...hourly(shown.expected).slice(1).map((point) => timeRow(point, rows.dataset.expected)),
  );
  fit = await draw(part("chart"), shown, now, say);
}

async function fetchChart() {
  drawnAt = Date.now() / 1000;
  try {
    chart = await ask(`chart?cluster=${encodeURIComponent(current().name)}`);
    await showChart();
  } catch (error) {
    console.info("Chart:", error);
  }
}

/** Show the newest of all clusters: what the stream says of `cluster`. */
export function showCluster(newest) {
  if (!card) return;
  told = newest;
  choices(part("which"), told.clusters.map((one) => one.name), String);
  part("which").hidden = told.clusters.length < 2;
  show();
}

if (card) {
  part("which").addEventListener("change", () => {
    drawnAt = 0;
    nodes = [];
    show();
  });
  part("resource").addEventListener("change", showChart);
  part("filter").addEventListener("input", () => showNodes());
  part("only-free").addEventListener("change", () => showNodes());
  part("nodes").addEventListener("toggle", () => (nodes.length || !current() ? showNodes() : fetchNodes()));
  part("outlook").addEventListener("toggle", showChart);
  new ResizeObserver(() => fit()).observe(part("chart"));
  // Other colours for another theme.
  new MutationObserver(showChart).observe(document.documentElement, { attributes: true, attributeFilter: ["data-bs-theme"] });
  setInterval(() => current() && showAge(current()), 30000);
}
