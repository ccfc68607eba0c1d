// The chart of a cluster's last and next day, drawn by uPlot. Nothing here fetches anything or holds a sentence.
import { language } from "./times.js";

const DAY = 86400;

let uPlot; // loaded with the first chart

/** The times and values of one resource: what was, then what is expected. Measured and expected never share a line. */
export function columns({ past, forecast }, name, now) {
  const was = past.series[name];
  const will = forecast?.series[name];
  const before = was ? past.at.map((at, i) => [at, was.used[i], was.queued[i], was.total[i] - was.down[i]]) : [];
  const measured = before.filter(([at, used]) => used !== null && at > now - DAY && !(forecast && at > forecast.as_of));
  const expected = will
    ? forecast.at.map((at, i) => [at, will.used[i], will.queued[i], will.total[i] - will.down[i]])
    : [];
  // What is expected begins with what is: the last that was measured.
  if (expected.length) measured.push(expected[0]);
  return { measured, expected };
}

/** The same for uPlot: a row for each time, nothing where a line has a hole. */
function rows({ measured, expected }) {
  const points = [
    ...measured.map(([at, used, queued, total]) => [at, used, null, queued, null, total]),
    ...expected.map(([at, used, queued, total]) => [at, null, used, null, queued, total]),
  ];
  // The moment of now is in both; one row has all of it.
  const [last, first] = [points[measured.length - 1], points[measured.length]];
  if (last && first && last[0] === first[0]) {
    points.splice(measured.length - 1, 2, [last[0], last[1], first[2], last[3], first[4], last[5]]);
  }
  return [0, 1, 2, 3, 4, 5].map((column) => points.map((point) => point[column]));
}

function highest(data) {
  const most = (list) => list.reduce((a, b) => Math.max(a, b ?? 0), 0);
  const total = Math.max(most(data[5]), most(data[1]), most(data[2]));
  // A queue may be many times what there is; then its line leaves the chart at the top.
  return Math.max(1, total, Math.min(Math.max(most(data[3]), most(data[4])), 2 * total)) * 1.08;
}

/** Label the hours; a midnight is the day that begins. */
function labels(_, splits) {
  const hour = new Intl.DateTimeFormat(language, { hour: "numeric", minute: "2-digit" });
  const day = new Intl.DateTimeFormat(language, { weekday: "short" });
  return splits.map((at) => {
    const when = new Date(at * 1000);
    return (when.getHours() ? hour : day).format(when);
  });
}

/** Show what comes after now as what it is: another ground, and a line where it begins. */
function future(now, word, colours) {
  return (chart) => {
    const { ctx, bbox } = chart;
    const x = Math.round(chart.valToPos(now, "x", true));
    if (x < bbox.left || x > bbox.left + bbox.width) return;
    const right = bbox.left + bbox.width;
    ctx.save();
    ctx.beginPath();
    ctx.rect(x, bbox.top, right - x, bbox.height);
    ctx.clip();
    ctx.strokeStyle = colours.line;
    ctx.lineWidth = devicePixelRatio;
    for (let at = x - bbox.height; at < right; at += 9 * devicePixelRatio) {
      ctx.beginPath();
      ctx.moveTo(at, bbox.top + bbox.height);
      ctx.lineTo(at + bbox.height, bbox.top);
      ctx.stroke();
    }
    ctx.restore();
    ctx.save();
    ctx.strokeStyle = colours.text;
    ctx.fillStyle = colours.text;
    ctx.lineWidth = devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.textAlign = "center";
    ctx.fillText(word, x, bbox.top - 4 * devicePixelRatio);
    ctx.restore();
  };
}

function coloursOf(box) {
  const style = getComputedStyle(box);
  const get = (name) => style.getPropertyValue(name).trim();
  return {
    used: get("--carme-used"),
    queued: get("--carme-queued"),
    text: get("--bs-secondary-color"),
    line: get("--bs-border-color-translucent") || get("--bs-border-color"),
    total: get("--bs-secondary-color"),
  };
}

function translucent(colour) {
  const canvas = document.createElement("canvas").getContext("2d");
  canvas.fillStyle = colour;
  return `${canvas.fillStyle}40`;
}

/** Draw into a box in place of what was there; say the values under the cursor. Returns what redraws it. */
export async function draw(box, shown, now, say) {
  uPlot ??= (await import("./vendor/uplot/uPlot.esm.js")).default;
  const data = rows(shown);
  const colours = coloursOf(box);
  const step = uPlot.paths.stepped({ align: 1 });
  const line = (stroke, more = {}) => ({ stroke, width: 2, points: { show: false }, paths: step, ...more });
  const dash = [6, 4];
  const axis = { stroke: colours.text, grid: { stroke: colours.line, width: 1 }, ticks: { show: false } };
  const options = {
    width: Math.max(box.clientWidth, 100),
    height: box.clientHeight,
    padding: [18, 28, 0, 0], // so that the last hour is whole
    legend: { show: false },
    cursor: { y: false, points: { size: 6 }, drag: { x: false, y: false } },
    scales: {
      x: { time: true, range: [now - DAY, now + (shown.expected.length ? DAY : 0)] },
      y: { range: [0, highest(data)] },
    },
    axes: [
      { ...axis, size: 26, gap: 4, space: 60, values: labels, incrs: [1, 2, 3, 4, 6, 12, 24].map((hours) => hours * 3600), font: "11px system-ui, sans-serif" },
      { ...axis, size: 40, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 50000], font: "11px system-ui, sans-serif" },
    ],
    series: [
      {},
      line(colours.used, { fill: translucent(colours.used) }),
      line(colours.used, { dash }),
      line(colours.queued),
      line(colours.queued, { dash }),
      line(colours.total, { width: 1 }),
    ],
    hooks: {
      drawAxes: [future(now, box.dataset.now, colours)],
      setCursor: [({ cursor: { idx } }) => say(idx === null || idx === undefined ? null : data.map((one) => one[idx]))],
    },
  };
  box.replaceChildren();
  const chart = new uPlot(options, data, box);
  return () => chart.setSize({ width: Math.max(box.clientWidth, 100), height: box.clientHeight });
}
