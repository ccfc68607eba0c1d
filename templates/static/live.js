// What an open page hears of the service: live({sessions: f, cluster: f, news: f, notices: f, offline: f}).
// Each f is called with the newest content, and at once with the last one; offline with the time (a Date) since
// when nothing is heard of service or hub, and with null when it is again. Without the service nothing happens:
// the page stays as the hub made it.
const FIRST_PAUSE = 1000; // milliseconds until the first new try
const LONGEST_PAUSE = 60000;
const TO_ANSWER = 15000; // for an answer to begin
const SILENCE = 65000; // without even a heartbeat, which comes every 20 seconds
const HIDDEN = 15000; // a tab that nobody sees lets go of its connection: browsers have six for a site

export function live(listeners) {
  const meta = document.querySelector("meta[name=carme-service]");
  if (!meta) return { stop() {} };
  const service = meta.content;
  const headers = { "X-XSRFToken": meta.dataset.xsrf };
  // With the hub's own token, a reader who has only been at the hub gets a login at the service on the way.
  const hub = window.jhdata?.xsrf_token;
  const address = `${service}api/events${hub ? `?hub=${encodeURIComponent(hub)}` : ""}`;
  let pause = FIRST_PAUSE;
  let again; // timer of the next try
  let hidden; // timer of letting go
  let current; // AbortController of the open connection
  let over = false;
  const lost = { service: null, hub: null, told: null };

  function tell() {
    const since = lost.service ?? lost.hub;
    if (since?.getTime() === lost.told?.getTime()) return;
    lost.told = since;
    listeners.offline?.(since);
  }

  function hear(event, data) {
    if (event === "away") {
      const { since } = JSON.parse(data);
      lost.hub = since === null ? null : new Date(since * 1000);
      tell();
    } else if (listeners[event]) {
      listeners[event](JSON.parse(data));
    }
  }

  async function read(body, alive) {
    const reader = body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      alive();
      const parts = (rest + value).split("\n\n");
      rest = parts.pop();
      for (const part of parts) {
        const found = /^event: (.*)\ndata: (.*)$/.exec(part);
        if (found) hear(found[1], found[2]);
      }
    }
  }

  async function connect() {
    clearTimeout(again);
    current?.abort();
    const mine = (current = new AbortController());
    let silence = setTimeout(() => mine.abort(), TO_ANSWER);
    const alive = () => {
      clearTimeout(silence);
      silence = setTimeout(() => mine.abort(), SILENCE);
    };
    let wait;
    try {
      const answer = await fetch(address, { headers, cache: "no-store", signal: mine.signal });
      if (answer.headers.get("Content-Type")?.startsWith("text/event-stream")) {
        pause = FIRST_PAUSE;
        lost.service = null;
        tell();
        alive();
        await read(answer.body, alive);
      } else if (answer.ok || answer.status === 403) {
        over = true; // signed out, or a page of an earlier login: it has to be loaded again
      } else if (answer.status === 429) {
        wait = LONGEST_PAUSE;
      }
    } catch {
      // Aborted, or no connection: tried again below.
    }
    clearTimeout(silence);
    if (mine !== current) return; // paused, or a newer connection took over
    current = undefined;
    lost.service ??= new Date();
    tell();
    if (over) return;
    again = setTimeout(connect, wait ?? pause * (0.5 + Math.random()));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }

  function letGo() {
    clearTimeout(again);
    const open = current;
    current = undefined;
    open?.abort();
  }

  function look() {
    clearTimeout(hidden);
    if (over) return;
    if (document.hidden) hidden = setTimeout(letGo, HIDDEN);
    else if (!current) {
      pause = FIRST_PAUSE;
      connect();
    }
  }

  document.addEventListener("visibilitychange", look);
  // A page in the browser's memory (back and forward) must not hold a connection.
  window.addEventListener("pagehide", letGo);
  window.addEventListener("pageshow", (event) => event.persisted && look());
  look();
  return {
    stop() {
      over = true;
      document.removeEventListener("visibilitychange", look);
      letGo();
    },
  };
}
