// JupyterLab's warning before a session's time limit ends. Written by hand in the form that JupyterLab loads
// (a module federation container), because it needs nothing to be bundled: it uses two of JupyterLab's commands.
"use strict";
(() => {
  const NAME = "carme-time-limit";
  const EXTEND = `${NAME}:extend`;

  function question() {
    const config = JSON.parse(document.getElementById("jupyter-config-data").textContent);
    const address = new URL(config.baseUrl, location.href);
    address.pathname += "carme/time-limit";
    // That this page looks at the time does not mean that somebody works.
    address.search = "no_track_activity=1";
    return address;
  }

  async function ask() {
    const token = /(?:^|; )_xsrf=([^;]*)/.exec(document.cookie);
    const answer = await fetch(question(), {
      headers: token ? { "X-XSRFToken": token[1] } : {},
      cache: "no-store",
      signal: AbortSignal.timeout(20000),
    });
    if (answer.status === 404) {
      return null; // the server has no such extension: there is nothing to ask
    }
    if (!answer.ok) {
      throw new Error(`carme/time-limit: ${answer.status}`);
    }
    return answer.json();
  }

  function words(told) {
    const end = new Date(1000 * told.end);
    const clock = end.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const minutes = Math.max(Math.round((end - Date.now()) / 60000), 0);
    const left = minutes === 0 ? "in less than a minute" : minutes === 1 ? "in 1 minute" : `in ${minutes} minutes`;
    return `This session ends ${left}, at ${clock}. Please save your work` +
      (told.extend ? ", or extend the session on the hub's page." : ".");
  }

  function activate(app) {
    let shown = null; // the notification, and what it was about
    let home = null;

    app.commands.addCommand(EXTEND, {
      label: "Extend the Session",
      execute: () => {
        if (home) {
          window.open(home, "_blank", "noopener");
        }
      },
    });

    async function look() {
      let again = 600;
      const told = await ask();
      if (told === null) {
        return null;
      }
      again = told.again;
      const address = new URL(told.home, location.href);
      home = /^https?:$/.test(address.protocol) ? address.href : null;
      const about = told.warned === null || told.end === null ? null : `${told.end} ${told.warned}`;
      if (shown && shown.about !== about) {
        await app.commands.execute("apputils:dismiss-notification", { id: shown.id });
        shown = null;
      }
      if (about !== null && shown === null) {
        const extend = { label: "Extend", commandId: EXTEND, args: {}, displayType: "accent" };
        const id = await app.commands.execute("apputils:notify", {
          message: words(told),
          type: "warning",
          options: { autoClose: false, actions: told.extend && home ? [extend] : [] },
        });
        shown = { about, id };
      }
      return again;
    }

    async function watch() {
      let again = 60;
      try {
        again = await look();
      } catch (problem) {
        console.warn(problem);
      }
      if (again !== null) {
        setTimeout(watch, 1000 * again);
      }
    }

    app.restored.then(watch);
  }

  const plugin = { id: `${NAME}:plugin`, autoStart: true, activate };
  const container = {
    init: () => undefined,
    get: async () => () => ({ __esModule: true, default: plugin }),
  };
  window._JUPYTERLAB = window._JUPYTERLAB || {};
  window._JUPYTERLAB[NAME] = container;
})();
