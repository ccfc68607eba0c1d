// What the proxy in front takes, from whom, and what it hands on: loaded by Node before configurable-http-proxy.
//
// CARME_FRONT has the settings, in JSON (see proxy.py). configurable-http-proxy itself is as it comes: two of its
// methods are asked here first.

import http from "node:http";
import https from "node:https";
import fs from "node:fs";
import { pathToFileURL } from "node:url";
import { Guests } from "./guests.mjs";
import { Strangers } from "./strangers.mjs";
import { comesFromProxy, forget, hideFromSessions, mayServeWorkers, refuse } from "./headers.mjs";

const CHECK_EVERY = 1000; // ms between two looks at how long headers take

const settings = JSON.parse(process.env.CARME_FRONT || "null");
delete process.env.CARME_FRONT;
// The proxy hands its environment to nobody, and whatever it starts is not to load this.
delete process.env.NODE_OPTIONS;
if (!settings) throw new Error("carme: CARME_FRONT is not set; the hub sets it where JupyterHub.proxy_class is BoundedProxy; see docs/bounds.md.");

const { bounds } = settings;
const strangers = new Strangers(bounds);
const guests = new Guests(settings, bounds);

// The proxy's own server is the one with a time for idle connections; the other one is for the hub, on loopback.
for (const scheme of [http, https]) {
  const create = scheme.createServer;
  scheme.createServer = function (options, listener) {
    if (typeof options === "function" || !options || options.keepAliveTimeout === undefined) {
      return create.call(this, options, listener);
    }
    const server = create.call(
      this,
      {
        ...options,
        maxHeaderSize: bounds.header,
        headersTimeout: 1000 * bounds.header_seconds,
        handshakeTimeout: 1000 * bounds.header_seconds,
        // People who are in may take hours for an upload; strangers have a time of their own.
        requestTimeout: 0,
        connectionsCheckingInterval: CHECK_EVERY,
      },
      listener
    );
    for (const event of ["connection", "secureConnection"]) {
      server.on(event, (socket) => {
        if (!comesFromProxy(socket, settings.trusted)) strangers.connected(socket);
      });
    }
    return server;
  };
}

const { ConfigurableProxy } = await import(
  new URL("../lib/configproxy.js", pathToFileURL(fs.realpathSync(process.argv[1])))
);
const proxy = ConfigurableProxy.prototype;
const handle = proxy.handleProxy;
const find = proxy.targetForReq;

// Whose path an address is: of a person's session, of a service, or of the hub.
async function routeOf(self, req) {
  const match = await find.call(self, req);
  return match && { ...match, data: (await self._routes.get(match.prefix)) || {} };
}

// The hub's own route: the shortest, which is there from the start.
async function hubOf(self) {
  const routes = Object.entries(await self._routes.getAll()).filter(([, data]) => data.hub);
  const [prefix, data] = routes.sort(([a], [b]) => a.length - b.length)[0] || [];
  return data && { prefix, target: data.target };
}

// Sessions are there for people who are in: to everybody else, the hub answers, whether there is one or not.
proxy.targetForReq = async function (req) {
  const route = await routeOf(this, req);
  if (route && route.data.user !== undefined && !req.carmeIn) return hubOf(this);
  return route && { prefix: route.prefix, target: route.target };
};

proxy.handleProxy = async function (kind, req, res, ...rest) {
  let route;
  try {
    route = await routeOf(this, req);
    if (!comesFromProxy(req.socket, settings.trusted)) forget(req);
    if (route && !route.data.hub && !mayServeWorkers(req)) {
      return refuse(req, res, 403, "Service workers are not allowed here.");
    }
    const ask = route && route.data.user !== undefined;
    req.carmeIn = guests.hasPass(req) || (ask && (await guests.hasToken(req, this, await hubOf(this))));
  } catch {
    return refuse(req, res, 400, "This address cannot be read.");
  }
  if (req.socket.destroyed) return undefined;
  // Hub and services look at cookies and tokens themselves: there, showing one is enough.
  if (req.carmeIn || (!(route && route.data.user !== undefined) && guests.showsSomething(req))) {
    strangers.isNone(req.socket);
  } else if (kind === "web" && !strangers.admit(req, res)) {
    return undefined;
  }
  if (route && !route.data.hub) hideFromSessions(req, res);
  return handle.call(this, kind, req, res, ...rest);
};
