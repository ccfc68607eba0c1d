// In Code-Server: the time that a session has left and the way back to its hub, in the status bar; warnings before the
// time limit ends; and what is wrong with home or memory. It reads what carme-hub's program around the server writes
// (carme_hub.spawner.timekeeper and .homecare), and is silent where there is nothing.
"use strict";
const fs = require("fs");
const vscode = require("vscode");

const TIME = "/tmp/.carme-time-limit.json";
const NOTES = "/tmp/.carme-notes.json";
const WANTED = "/tmp/.carme-time-wanted"; // asks the program around the server to look at the time anew
const CLICKED = 5 * 60 * 1000; // milliseconds after a click in which the end may have moved
const LONGEST = 8000;
const LOOK = 5000; // milliseconds; a look is two stat() of files in memory
const NEAR = 15 * 60; // seconds before the end from which on the time left stands out

/** Read a file of JSON; null when there is none, or it is not this person's own. */
function read(path) {
  let file = null;
  try {
    file = fs.openSync(path, fs.constants.O_RDONLY | fs.constants.O_NOFOLLOW | fs.constants.O_NONBLOCK);
    const about = fs.fstatSync(file);
    if (about.uid !== process.getuid() || !about.isFile() || about.size > LONGEST) {
      return null;
    }
    return JSON.parse(fs.readFileSync(file, "utf8"));
  } catch {
    return null;
  } finally {
    if (file !== null) {
      fs.closeSync(file);
    }
  }
}

function readTime() {
  const told = read(TIME);
  const number = (value) => (typeof value === "number" ? value : null);
  return { end: number(told?.end), warned: number(told?.warned), extend: told?.extend === true };
}

function readNotes() {
  const told = read(NOTES);
  const good = (one) => typeof one?.id === "string" && typeof one?.text === "string";
  return Array.isArray(told) ? told.filter(good) : [];
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

const clockOf = (end) => new Date(1000 * end).toTimeString().slice(0, 5);

function words(told) {
  const minutes = Math.max(Math.round((1000 * told.end - Date.now()) / 60000), 0);
  const left = minutes === 0 ? "in less than a minute" : minutes === 1 ? "in 1 minute" : `in ${minutes} minutes`;
  return `This session ends ${left}, at ${clockOf(told.end)}. Please save your work` +
    (told.extend ? ", or extend the session on the hub's page." : ".");
}

/** Return the address of the hub's home page; null when nobody knows it. */
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
  const seen = await Promise.resolve(vscode.env.asExternalUri(local)).catch(() => local);
  return seen.authority === local.authority ? null : seen.with({ path: `${base}hub/home`, query: "", fragment: "" });
}

let clicked = -Infinity;

async function openHub() {
  clicked = Date.now();
  const address = await home();
  if (address) {
    await vscode.env.openExternal(address);
  } else {
    await vscode.window.showInformationMessage("The address of the hub is not known here.");
  }
}

async function warn(told) {
  const chosen = await vscode.window.showWarningMessage(words(told), ...(told.extend ? ["Extend"] : []));
  if (chosen) {
    await openHub();
  }
}

function activate(context) {
  const quietly = (promise) => promise.then(undefined, (problem) => console.warn(problem));
  for (const command of ["carme.extend", "carme.hub"]) {
    context.subscriptions.push(vscode.commands.registerCommand(command, openHub));
  }
  const hub = vscode.window.createStatusBarItem("carme.hub", vscode.StatusBarAlignment.Left, 1000);
  Object.assign(hub, { name: "Hub", text: "$(home) Hub", tooltip: "Back to the hub", command: "carme.hub" });
  hub.show();
  const time = vscode.window.createStatusBarItem("carme.time", vscode.StatusBarAlignment.Left, 999);
  time.name = "Time left";
  context.subscriptions.push(hub, time);

  let last = "";
  const shown = new Set();
  const look = () => {
    if (Date.now() - clicked < CLICKED) {
      fs.writeFile(WANTED, "", { flag: "wx" }, () => undefined);
    }
    const told = readTime();
    const left = told.end === null ? null : told.end - Date.now() / 1000;
    if (left === null) {
      time.hide();
    } else {
      time.text = `$(watch) ${spoken(left)} left`;
      time.tooltip = `This session ends at ${clockOf(told.end)}` + (told.extend ? ". Extend it on the hub's page" : "");
      time.command = told.extend ? "carme.extend" : undefined;
      time.backgroundColor = left < NEAR ? new vscode.ThemeColor("statusBarItem.warningBackground") : undefined;
      time.show();
    }
    const about = told.end !== null && told.warned !== null ? `${told.end} ${told.warned}` : "";
    if (about && about !== last) {
      quietly(warn(told));
    }
    last = about;
    const notes = readNotes();
    for (const one of notes) {
      if (!shown.has(one.id)) {
        shown.add(one.id);
        quietly(vscode.window.showWarningMessage(one.text));
      }
    }
    for (const id of [...shown]) {
      if (!notes.some((one) => one.id === id)) {
        shown.delete(id);
      }
    }
  };
  const timer = setInterval(look, LOOK);
  context.subscriptions.push({ dispose: () => clearInterval(timer) });
  look();
}

module.exports = { activate };
