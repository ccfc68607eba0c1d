// In JupyterLab: the time that a session has left and the way back to its hub, in the top bar; warnings before the
// time limit ends; and what is wrong with home or memory. Written by hand in the form that JupyterLab loads (a module
// federation container), because it needs nothing to be bundled: it uses JupyterLab's own Widget and two commands.
"use strict";
(() => {
  const NAME = "carme-session-bar";
  const EXTEND = `${NAME}:extend`;
  const HUB = `${NAME}:hub`;
  const NOTES = 10; // seconds between two questions for what is wrong, while the page is looked at
  const CLICKED = 5 * 60; // seconds after a click on "Extend" in which the end may have moved
  const NEAR = 15 * 60; // seconds before the end from which on the time left stands out
  let shared = {};

  function question(what) {
    const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    const address = new URL(config.baseUrl, location.href);
    address.pathname += `carme/${what}`;
    // That this page looks at the time does not mean that somebody works.
    address.search = "no_track_activity=1";
    return address;
  }

  async function ask(what, more = "") {
    const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
    const answer = await fetch(`${question(what)}${more}`, {
      headers: token ? { "X-XSRFToken": token[1] } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(20000),
    });
    if (answer.status === 404) {
      return null; // the server has no such extension: there is nothing to ask
    }
    if (!answer.ok) {
      throw new Error(`carme/${what}: ${answer.status}`);
    }
    return answer.json();
  }

  /** Say a number of seconds: "2 d 3 h", "1 h 05 min", "12 min". */
  function spoken(seconds) {
    const minutes = Math.floor(Math.max(seconds, 0) / 60);
    const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60) % 24];
    if (days) {
      return `${days} d ${hours} h`;
    }
    return hours ? `${hours} h ${String(minutes % 60).padStart(2, "0")} min` : minutes ? `${minutes} min` : "< 1 min";
  }

  const clockOf = (end) => new Date(1000 * end).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

  function words(told) {
    const minutes = Math.max(Math.round((1000 * told.end - Date.now()) / 60000), 0);
    const left = minutes === 0 ? "in less than a minute" : minutes === 1 ? "in 1 minute" : `in ${minutes} minutes`;
    return `This session ends ${left}, at ${clockOf(told.end)}. Please save your work` +
      (told.extend ? ", or extend the session on the hub's page." : ".");
  }

  /** Make the bar: time left, "Extend", "Hub". They are links: the keyboard, a new tab and a copy work by themselves. */
  function makeBar() {
    const node = document.createElement("div");
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", "Session");
    node.style.cssText = "display:flex;align-items:center;gap:10px;padding:0 12px;white-space:nowrap;" +
      "margin-left:auto;font-size:var(--jp-ui-font-size1);color:var(--jp-ui-font-color1)";
    const left = document.createElement("span");
    left.dataset.carme = "left";
    const link = (name, text, title) => {
      const made = document.createElement("a");
      Object.assign(made, { textContent: text, title, target: "_blank", rel: "noopener", hidden: true });
      made.dataset.carme = name;
      made.style.cssText = "color:var(--jp-content-link-color);text-decoration:underline";
      return made;
    };
    const extend = link("extend", "Extend", "Extend this session on the hub's page");
    const hub = link("hub", "Hub", "Back to the hub");
    node.append(left, extend, hub);
    let known = null;
    const draw = () => {
      const seconds = known && known.end !== null ? known.end - Date.now() / 1000 : null;
      left.textContent = seconds === null ? "" : `${spoken(seconds)} left`;
      left.title = seconds === null ? "" : `This session ends at ${clockOf(known.end)}`;
      left.style.cssText = seconds !== null && seconds < NEAR
        ? "font-weight:600;color:var(--jp-warn-color0, var(--jp-warn-color1))" : "";
    };
    setInterval(draw, 10000);
    return {
      node,
      show(told, home) {
        known = told;
        for (const one of [extend, hub]) {
          one.hidden = !home;
          one.href = home || "";
        }
        extend.hidden = extend.hidden || !told.extend;
        draw();
      },
    };
  }

  /** Put the bar at the right end of the top bar. */
  async function addBar(app, node) {
    const versions = Object.values(shared["@lumino/widgets"] ?? {});
    const module = versions.length ? (await versions[0].get())() : null;
    if (module === null) {
      throw new Error("JupyterLab does not share @lumino/widgets");
    }
    const widget = new module.Widget({ node });
    widget.id = NAME;
    app.shell.add(widget, "top", { rank: 10000 });
  }

  function activate(app) {
    let warning = null; // the notification, and what it was about
    let home = null;
    const notes = new Map(); // what is wrong -> its notification
    const bar = makeBar();
    let clicked = -Infinity;
    const open = () => home && window.open(home, "_blank", "noopener");
    const moves = () => Date.now() / 1000 - clicked < CLICKED;
    const click = () => {
      clicked = Date.now() / 1000;
      watch(async () => (await lookAtTime(), moves() ? 20 : null), 20);
    };
    bar.node.querySelector("[data-carme=extend]").addEventListener("click", click);

    app.commands.addCommand(EXTEND, { label: "Extend the Session", execute: () => (click(), open()) });
    app.commands.addCommand(HUB, { label: "Back to the Hub", execute: open });

    const dismiss = (id) => app.commands.execute("apputils:dismiss-notification", { id });
    const notify = (message, type, actions) =>
      app.commands.execute("apputils:notify", { message, type, options: { autoClose: false, actions } });

    async function lookAtTime() {
      const told = await ask("time-limit", moves() ? "&anew=1" : "");
      if (told === null) {
        return null;
      }
      const address = new URL(told.home, location.href);
      home = /^https?:$/.test(address.protocol) ? address.href : null;
      bar.show(told, home);
      const about = told.warned === null || told.end === null ? null : `${told.end} ${told.warned}`;
      if (warning && warning.about !== about) {
        await dismiss(warning.id);
        warning = null;
      }
      if (about !== null && warning === null) {
        const extend = { label: "Extend", commandId: EXTEND, args: {}, displayType: "accent" };
        const id = await notify(words(told), "warning", told.extend && home ? [extend] : []);
        warning = { about, id };
      }
      return told.again;
    }

    async function lookAtNotes() {
      if (document.visibilityState === "hidden") {
        return NOTES;
      }
      const told = await ask("notes");
      if (told === null) {
        return null;
      }
      const now = new Map(told.notes.map((one) => [one.id, one.text]));
      for (const [id, shown] of [...notes]) {
        if (!now.has(id)) {
          notes.delete(id);
          await dismiss(shown);
        }
      }
      for (const [id, text] of now) {
        if (!notes.has(id)) {
          notes.set(id, null);
          notes.set(id, await notify(text, "warning", []));
        }
      }
      return NOTES;
    }

    async function watch(look, otherwise) {
      let again = otherwise;
      try {
        again = await look();
      } catch (problem) {
        console.warn(problem);
      }
      if (again !== null) {
        setTimeout(() => watch(look, otherwise), 1000 * again);
      }
    }

    app.restored.then(async () => {
      try {
        await addBar(app, bar.node);
      } catch (problem) {
        console.warn(problem);
      }
      watch(lookAtTime, 60);
      watch(lookAtNotes, 60);
    });
  }

  const plugin = { id: `${NAME}:plugin`, autoStart: true, activate };
  const container = {
    init: (scope) => {
      shared = scope ?? {};
    },
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = container;
})();
