// Code-Server's warning before a session's time limit ends; it reads what carme-hub's program around the server
// writes (carme_hub.spawner.timekeeper), and is silent where there is nothing.
"use strict";
const fs = require("fs");
const vscode = require("vscode");

const FILE = "/tmp/.carme-time-limit.json";
const LOOK = 5000; // milliseconds; a look is one stat() of a file in memory

/** Read the file; null when there is none, or it is not this person's own. */
function read() {
  let file = null;
  try {
    file = fs.openSync(FILE, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
    const about = fs.fstatSync(file);
    if (about.uid !== process.getuid() || !about.isFile() || about.size > 2000) {
      return null;
    }
    const told = JSON.parse(fs.readFileSync(file, "utf8"));
    const known = typeof told.end === "number" && typeof told.warned === "number";
    return known ? { end: told.end, warned: told.warned, extend: told.extend === true } : null;
  } catch {
    return null;
  } finally {
    if (file !== null) {
      fs.closeSync(file);
    }
  }
}

function words(told) {
  const end = new Date(1000 * told.end);
  const clock = end.toTimeString().slice(0, 5);
  const minutes = Math.max(Math.round((end - Date.now()) / 60000), 0);
  const left = minutes === 0 ? "in less than a minute" : minutes === 1 ? "in 1 minute" : `in ${minutes} minutes`;
  return `This session ends ${left}, at ${clock}. Please save your work` +
    (told.extend ? ", or extend the session on the hub's page." : ".");
}

/** Return the address of the hub's home page. */
async function home() {
  const base = process.env.JUPYTERHUB_BASE_URL || "/";
  const hub = process.env.JUPYTERHUB_PUBLIC_HUB_URL;
  if (hub) {
    return vscode.Uri.parse(`${hub.replace(/\/$/, "")}/home`);
  }
  if (process.env.JUPYTERHUB_HOST) {
    return vscode.Uri.parse(`${process.env.JUPYTERHUB_HOST}${base}hub/home`);
  }
  // Only the browser knows under which name the hub is reached: Code-Server tells it when asked for a port's address.
  const local = vscode.Uri.from({ scheme: "http", authority: "localhost:1", path: "/" });
  const seen = await vscode.env.asExternalUri(local);
  return seen.authority === local.authority ? null : seen.with({ path: `${base}hub/home`, query: "", fragment: "" });
}

async function warn(told) {
  const address = told.extend ? await home() : null;
  const chosen = await vscode.window.showWarningMessage(words(told), ...(address ? ["Extend"] : []));
  if (chosen && address) {
    await vscode.env.openExternal(address);
  }
}

function activate(context) {
  let last = "";
  const look = () => {
    const told = read();
    const about = told ? `${told.end} ${told.warned}` : "";
    if (about && about !== last) {
      warn(told).then(undefined, (problem) => console.warn(problem));
    }
    last = about;
  };
  const timer = setInterval(look, LOOK);
  context.subscriptions.push({ dispose: () => clearInterval(timer) });
  look();
}

module.exports = { activate };
