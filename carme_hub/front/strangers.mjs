// How much strangers may send, for how long, and how many connections they have.

import { refuse } from "./headers.mjs";

const TOO_LARGE = "Please sign in before you send that much.";

export class Strangers {
  constructor(bounds) {
    this.bounds = bounds;
    this.bodies = new Map(); // request -> bytes that came
    this.sockets = new Map(); // address -> port -> socket that showed nothing; who was quiet longest comes first
    this.count = 0;
  }

  // A connection that showed nothing yet. With TLS it is told of twice: when it is made, and when it can be read.
  connected(socket) {
    const { remoteAddress: address = "", remotePort: port } = socket;
    const theirs = this.sockets.get(address) || new Map();
    this.sockets.set(address, theirs);
    if (!theirs.has(port)) this.count += 1;
    theirs.set(port, socket);
    socket.once("close", () => {
      if (theirs.get(port) === socket) this.forget(address, port);
    });
    if (theirs.size > this.bounds.stranger_connections) this.close(address);
    else if (this.count > this.bounds.strangers_connections) this.close(this.busiest());
  }

  // Somebody's who is in.
  isNone(socket) {
    this.forget(socket.remoteAddress, socket.remotePort);
  }

  forget(address, port) {
    const theirs = this.sockets.get(address);
    if (!theirs || !theirs.delete(port)) return;
    this.count -= 1;
    if (!theirs.size) this.sockets.delete(address);
  }

  // The address that has the most connections.
  busiest() {
    let found = ["", 0];
    for (const [address, some] of this.sockets) if (some.size > found[1]) found = [address, some.size];
    return found[0];
  }

  // Close the connection of an address that was quiet the longest: best one without a request.
  close(address) {
    const theirs = [...this.sockets.get(address)];
    const [port, socket] = theirs.find(([, one]) => !one.carmeBusy) || theirs[0];
    this.forget(address, port);
    socket.destroy();
  }

  // Let a request in, or answer it. What it sends is counted on its way.
  admit(req, res) {
    const { socket } = req;
    const { remoteAddress: address, remotePort: port } = socket;
    socket.carmeBusy = true;
    res.once("close", () => {
      socket.carmeBusy = false;
      const theirs = this.sockets.get(address);
      if (theirs && theirs.delete(port)) theirs.set(port, socket); // the last one now
    });
    const length = Number(req.headers["content-length"] || 0);
    if (length > this.bounds.stranger_body) {
      refuse(req, res, 413, TOO_LARGE);
      return false;
    }
    if (length || req.headers["transfer-encoding"]) this.watch(req, res);
    return true;
  }

  watch(req, res) {
    const { bodies, bounds } = this;
    const late = setTimeout(() => req.socket.destroy(), 1000 * bounds.stranger_seconds);
    const over = () => {
      clearTimeout(late);
      bodies.delete(req);
    };
    bodies.set(req, 0);
    req.on("data", (piece) => {
      const size = (bodies.get(req) || 0) + piece.length;
      if (size > bounds.stranger_body) req.socket.destroy();
      else bodies.set(req, size);
    });
    req.pause(); // until the proxy reads it, too
    req.once("end", over);
    res.once("close", over);
    if (bodies.size <= bounds.stranger_bodies) return;
    let largest = req;
    for (const [one, size] of bodies) if (size > bodies.get(largest)) largest = one;
    largest.socket.destroy();
  }
}
