// Who is in: who has a browser that somebody signed in with, or a token that the hub knows.

import crypto from "node:crypto";
import http from "node:http";
import https from "node:https";

export const PASS = "carme-pass";
const KNOWN = 300; // seconds for which a token that was good is not asked for again
const UNKNOWN = 5; // the same for one that was not
const MOST = 10000; // tokens that are remembered
const ASKING = 32; // asked for at once
const TOKEN = /^(?:token|bearer)\s+(\S+)$/i;
const COOKIE = /^(?:__Host-)?(?:jupyterhub-hub-login|jupyterhub-user-|service-)/;

function cookiesOf(req) {
  return (req.headers.cookie || "").split(";").map((one) => one.trim());
}

function tokenOf(req) {
  const header = TOKEN.exec(req.headers.authorization || "");
  if (header) return header[1];
  return req.url.includes("token=") ? new URL(req.url, "http://any").searchParams.get("token") : null;
}

export class Guests {
  constructor({ key, who }, bounds) {
    this.key = Buffer.from(key, "hex");
    this.who = who; // the hub's path that says whose a token is
    this.bounds = bounds;
    this.tokens = new Map(); // hash of a token -> { good, until }, the oldest first
    this.asking = new Map(); // hash of a token -> promise
  }

  // A pass is EXPIRY.SIGNATURE, with seconds since 1970; the hub makes it (see passes.py).
  hasPass(req) {
    return cookiesOf(req).some((cookie) => {
      const found = /^carme-pass=(\d{1,12})\.([0-9a-f]{64})$/.exec(cookie);
      if (!found || Number(found[1]) < Date.now() / 1000) return false;
      const ours = crypto.createHmac("sha256", this.key).update(found[1]).digest();
      return crypto.timingSafeEqual(ours, Buffer.from(found[2], "hex"));
    });
  }

  // Whether there is anything that hub or service could know somebody by.
  showsSomething(req) {
    return Boolean(tokenOf(req)) || cookiesOf(req).some((cookie) => COOKIE.test(cookie));
  }

  // Whether the hub knows the request's token.
  async hasToken(req, proxy, hub) {
    const token = tokenOf(req);
    if (!token || !hub) return false;
    const name = crypto.createHash("sha256").update(token).digest("hex");
    const known = this.tokens.get(name);
    if (known && known.until > Date.now()) return known.good;
    if (!this.asking.has(name)) {
      if (this.asking.size >= ASKING) return false;
      this.asking.set(
        name,
        this.ask(token, proxy, hub)
          .then((good) => this.remember(name, good))
          // Nobody to be asked: what was good is, until the hub is there again.
          .catch(() => Boolean(known && known.good))
          .finally(() => this.asking.delete(name))
      );
    }
    return this.asking.get(name);
  }

  remember(name, good) {
    this.tokens.delete(name);
    this.tokens.set(name, { good, until: Date.now() + 1000 * (good ? KNOWN : UNKNOWN) });
    if (this.tokens.size > MOST) this.tokens.delete(this.tokens.keys().next().value);
    return good;
  }

  ask(token, proxy, hub) {
    const target = new URL(hub.target);
    const scheme = target.protocol === "https:" ? https : http;
    const options = {
      ...(proxy.options.clientSsl || {}),
      agent: target.protocol === "https:" ? proxy.httpsAgent : proxy.httpAgent,
      path: this.who,
      headers: { authorization: `token ${token}` },
      timeout: 1000 * this.bounds.ask_seconds,
    };
    return new Promise((resolve, reject) => {
      const asked = scheme.request(target, options, (answer) => {
        answer.resume();
        if (answer.statusCode >= 500) reject(new Error(`the hub answers ${answer.statusCode}`));
        else resolve(answer.statusCode === 200);
      });
      asked.on("timeout", () => asked.destroy(new Error("the hub does not answer")));
      asked.on("error", reject);
      asked.end();
    });
  }
}
