// Headers that others may not set, and answers that the proxy gives itself.

import { PASS } from "./guests.mjs";

const LINGER = 2000; // ms in which what is still sent is thrown away, so that the answer is read
// Code-Server's webviews (notebooks, previews) need one. Its scope is the folder it lies in, which nobody visits.
const WORKER = /\/webview\/browser\/pre\/service-worker\.js$/;
const FORGED = /^(forwarded|x-forwarded-.*|x-real-ip|x-scheme)$/;
const SCHEME = /^(x-forwarded-proto|x-scheme)$/;

export function comesFromProxy(socket, trusted) {
  return trusted.includes((socket.remoteAddress || "").replace(/^::ffff:/, ""));
}

// Forget what somebody says of where they come from. Whoever is on this machine, as a web server with the site's
// certificate is, may say whether browsers have TLS: that lies to nobody but the one who says it.
export function forget(req) {
  const here = req.socket.remoteAddress === req.socket.localAddress;
  for (const name of Object.keys(req.headers)) {
    if (FORGED.test(name) && !(here && SCHEME.test(name))) delete req.headers[name];
  }
}

// A service worker stays in a browser when its session is long gone, and answers in the place of pages.
export function mayServeWorkers(req) {
  return (req.headers["service-worker"] || "").toLowerCase() !== "script" || WORKER.test(req.url.split("?")[0]);
}

// Sessions and services get no sign of the front's, and widen no service worker's scope.
export function hideFromSessions(req, res) {
  const cookies = (req.headers.cookie || "").split(";").map((one) => one.trim());
  const others = cookies.filter((one) => one && !one.startsWith(`${PASS}=`));
  if (others.length) req.headers.cookie = others.join("; ");
  else delete req.headers.cookie;
  if (!res.setHeader) return; // a websocket
  const set = res.setHeader;
  res.setHeader = function (name, value) {
    return name.toLowerCase() === "service-worker-allowed" ? this : set.call(this, name, value);
  };
}

// Answer in the place of whoever was asked for. `res` is a socket where a websocket was asked for.
export function refuse(req, res, code, sentence) {
  const text = `${sentence}\n`;
  if (!res.writeHead) {
    res.end(`HTTP/1.1 ${code} Refused\r\nConnection: close\r\nContent-Length: ${text.length}\r\n\r\n${text}`);
    return;
  }
  if (!res.headersSent) {
    res.writeHead(code, { "Content-Type": "text/plain; charset=utf-8" });
    res.end(text);
  }
  req.resume();
  const late = setTimeout(() => req.socket.destroy(), LINGER);
  req.once("end", () => clearTimeout(late));
  req.once("close", () => clearTimeout(late));
}
