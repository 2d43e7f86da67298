// Keeps a stream of server-sent events open, and tells how that goes.
//
// Why: the browser's own reconnecting neither backs off nor tells anybody. A hidden page closes its streams,
// since a browser opens only six connections to one daemon, for all its pages together.
// Invariants: at most one EventSource per Stream; the pause doubles up to PAUSE_MS_MAX; silence longer than
// SILENCE_MS_MAX counts as a loss.
// Source: HTML Living Standard, "Server-sent events".

/** First pause before a new try. */
const PAUSE_MS_MIN = 1000;
/** Longest pause: a person who restarts the daemon should not wait longer than this. */
const PAUSE_MS_MAX = 15000;

/** One stream. `handlers`: `message(name, data)`, `opened()`, `lost(retryAtMs, attempts)`. */
export class Stream {
  /** `address` is a function, so that each try can begin where the last one ended. */
  constructor(address, names, handlers, silenceMsMax = 0) {
    this.address = address;
    this.names = ["message", ...names];
    this.handlers = handlers;
    this.silenceMsMax = silenceMsMax;
    this.attempts = 0;
    this.source = null;
    this.timer = 0;
    this.watch = 0;
    this.wanted = false;
  }

  /** Opens, unless it is open. */
  start() {
    this.wanted = true;
    if (!this.source && !this.timer) this.open();
  }

  /** Closes. */
  stop() {
    this.wanted = false;
    this.attempts = 0;
    this.close();
  }

  /** Tries now, instead of at the end of the pause. */
  retry() {
    if (!this.wanted) return;
    this.close();
    this.open();
  }

  open() {
    const source = new EventSource(this.address());
    this.source = source;
    source.onopen = () => {
      this.attempts = 0;
      this.heard();
      this.handlers.opened?.();
    };
    source.onerror = () => {
      if (this.source === source) this.fail();
    };
    for (const name of this.names) {
      source.addEventListener(name, (event) => {
        if (this.source !== source) return;
        this.heard();
        this.handlers.message(name, event.data, event.lastEventId);
      });
    }
  }

  heard() {
    clearTimeout(this.watch);
    if (0 < this.silenceMsMax) this.watch = setTimeout(() => this.fail(), this.silenceMsMax);
  }

  fail() {
    this.close();
    if (!this.wanted) return;
    const longest = Math.min(PAUSE_MS_MAX, PAUSE_MS_MIN * 2 ** Math.min(this.attempts, 10));
    // A part of the pause is random, so that many pages do not return in the same moment.
    const pause = longest * (0.75 + Math.random() * 0.25);
    this.attempts += 1;
    this.timer = setTimeout(() => {
      this.timer = 0;
      this.open();
    }, pause);
    this.handlers.lost?.(Date.now() + pause, this.attempts);
  }

  close() {
    clearTimeout(this.timer);
    clearTimeout(this.watch);
    this.timer = 0;
    this.watch = 0;
    this.source?.close();
    this.source = null;
  }
}

/** Reads JSON; null when it is none, because a page must survive a bad message. */
export function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
