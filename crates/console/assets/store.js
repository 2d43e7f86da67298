// Holds what the pages show, keeps it fresh, and tells who listens.
//
// Why: one stream of status and one of events serve all parts of the page; parts only draw.
// Invariants: all buffers are bounded (SAMPLES_MAX, EVENTS_MAX); listeners hear of a change at most once per
// REDRAW_MS_MIN; when streams fail, asking takes over, and the page says so.

import * as api from "./api.js";
import { setServerTime, nowUs } from "./format.js";
import { Stream, parse } from "./live.js";
import { numbersOf } from "./numbers.js";

/** Samples kept per instance: as many as the daemon keeps. */
const SAMPLES_MAX = 120;
/** Points kept of what a detector measures: half an hour. */
const TREND_MAX = 180;
/** A number that does not change is a point this often. */
const TREND_US = 10e6;
/** Events kept for the panels; the events page asks for older ones. */
const EVENTS_MAX = 300;
/** Listeners are told of changes at most this often. */
const REDRAW_MS_MIN = 250;
/** How often to ask while the stream does not work. */
const POLL_MS = 2000;
/** How often a hidden page asks, for its title only. */
const POLL_HIDDEN_MS = 15000;
/** A hidden page keeps its streams this long, so that a short look elsewhere costs nothing. */
const HIDDEN_GRACE_MS = 10000;
/** The status stream carries samples, so it is never silent this long. */
const SILENCE_MS_MAX = 60000;
/** For the restarts of the last hour. */
const HOUR_US = 3600 * 1e6;

/** What is known. `connection.state`: `connecting`, `live`, `polling`, `down`, `refused`. */
export const store = {
  snapshot: null,
  samples: new Map(),
  total: [],
  trends: new Map(),
  events: [],
  eventsKnown: false,
  exits: [],
  me: { name: "", role: "read" },
  connection: { state: "connecting", retryAtMs: 0, fault: null },
};

const listeners = new Map();

/** Listens to `status`, `event`, `events`, `connection`, `me` or `samples`; returns how to stop listening. */
export function on(topic, listener) {
  const all = listeners.get(topic) ?? new Set();
  listeners.set(topic, all.add(listener));
  return () => all.delete(listener);
}

function tell(topic, value) {
  for (const listener of listeners.get(topic) ?? []) listener(value);
}

/** True when this person may act. */
export const mayAct = () => store.me.role === "act";

let redraw = 0;
let redrawnAt = 0;
function tellStatus() {
  if (redraw) return;
  const pause = Math.max(0, redrawnAt + REDRAW_MS_MIN - performance.now());
  redraw = setTimeout(() => {
    redraw = 0;
    redrawnAt = performance.now();
    tell("status");
  }, pause);
}

function takeStatus(snapshot) {
  if (!snapshot || !Array.isArray(snapshot.services)) return;
  setServerTime(snapshot.taken_us);
  let rss = 0;
  let cpu = 0;
  const alive = new Set();
  for (const service of snapshot.services) {
    for (const one of service.instances) {
      one.service = service.name;
      alive.add(one.name);
      takeVerdicts(one, snapshot.taken_us);
      if (!one.sample) continue;
      rss += one.sample.rss_bytes ?? 0;
      cpu += one.sample.cpu_percent ?? 0;
      pushSample(one.name, api.sampleOf(one.sample));
    }
  }
  for (const name of store.samples.keys()) if (!alive.has(name)) store.samples.delete(name);
  for (const name of store.trends.keys()) if (!alive.has(name)) store.trends.delete(name);
  pushBounded(store.total, { atUs: snapshot.taken_us, rss, cpu });
  store.snapshot = snapshot;
  tellStatus();
}

/** What detectors measured, by instance and detector, of the present run: a successor begins anew. */
function takeVerdicts(one, atUs) {
  const verdicts = one.health?.verdicts ?? [];
  if (verdicts.length === 0) return;
  const { rings } = trendsOf(one.name, one.run);
  for (const verdict of verdicts) {
    const { now } = numbersOf(verdict);
    if (now === null) continue;
    let ring = rings.get(verdict.detector);
    if (!ring) rings.set(verdict.detector, (ring = []));
    const last = ring[ring.length - 1];
    if (last && (atUs <= last.atUs || (last.value === now && atUs < last.atUs + TREND_US))) continue;
    ring.push({ atUs, value: now });
    if (TREND_MAX < ring.length) ring.shift();
  }
}

function trendsOf(instance, run) {
  let known = store.trends.get(instance);
  if (!known || known.run !== run) store.trends.set(instance, (known = { run, rings: new Map() }));
  return known;
}

/** Asks for what was measured before this page was opened. */
export async function loadTrends(instance) {
  try {
    const { run, trends } = await api.trends(instance);
    const known = store.trends.get(instance);
    if (run === null || (known && known.run !== run)) return;
    const { rings } = trendsOf(instance, run);
    for (const [detector, points] of trends) {
      const seen = rings.get(detector) ?? [];
      const older = seen.length ? points.filter((point) => point.atUs < seen[0].atUs) : points;
      rings.set(detector, [...older, ...seen].slice(-TREND_MAX));
    }
    tellStatus();
  } catch {
    // Without history the drawings begin now.
  }
}

function pushSample(name, sample) {
  let ring = store.samples.get(name);
  if (!ring) store.samples.set(name, (ring = []));
  pushBounded(ring, sample);
}

function pushBounded(ring, sample) {
  const last = ring[ring.length - 1];
  // The same sample comes again when something else changed; half a second is shorter than any sampling.
  if (last && sample.atUs - last.atUs < 500000) return;
  ring.push(sample);
  if (SAMPLES_MAX < ring.length) ring.shift();
}

async function loadSamples() {
  try {
    const all = await api.allSamples();
    for (const [name, ring] of all) store.samples.set(name, ring.slice(-SAMPLES_MAX));
    store.total = totals(all);
    tellStatus();
  } catch {
    // Without history the lines begin now.
  }
}

/** Adds up the rings from their ends: all instances are sampled in the same rounds. */
function totals(all) {
  const longest = Math.max(0, ...[...all.values()].map((ring) => ring.length));
  const found = [];
  for (let back = longest; 0 < back; back -= 1) {
    const sum = { atUs: 0, rss: 0, cpu: 0 };
    for (const ring of all.values()) {
      const sample = ring[ring.length - back];
      if (!sample) continue;
      sum.atUs = Math.max(sum.atUs, sample.atUs);
      sum.rss += sample.rss;
      sum.cpu += sample.cpu;
    }
    found.push(sum);
  }
  return found.slice(-SAMPLES_MAX);
}

function takeEvents(news) {
  const known = new Set(store.events.map((event) => event.seq));
  const fresh = news.filter((event) => event && event.message !== undefined && !known.has(event.seq));
  if (fresh.length === 0) return;
  store.events = [...fresh, ...store.events].sort((a, b) => b.seq - a.seq).slice(0, EVENTS_MAX);
  for (const event of fresh) if (isEnd(event)) store.exits.push(event.wall_us);
  tell("events", fresh);
}

/** An end that nobody asked for. */
const ENDS = ["service.exited", "service.start_failed", "service.start_timeout", "service.watchdog_timeout"];
const isEnd = (event) => event.severity !== "info" && ENDS.includes(event.kind);

/** Ends within the last hour that nobody asked for. */
export function endsLastHour() {
  const since = nowUs() - HOUR_US;
  store.exits = store.exits.filter((at) => since < at);
  return store.exits.length;
}

async function loadEvents() {
  try {
    const first = !store.eventsKnown;
    const news = await api.events(first ? { limit: 100 } : { limit: EVENTS_MAX, after: store.events[0]?.seq });
    store.eventsKnown = true;
    takeEvents(news);
    if (first) {
      const bad = await api.events({ since: "1h", severity: "warning", limit: 1000 });
      store.exits = bad.filter(isEnd).map((event) => event.wall_us);
    }
    tell("events", []);
  } catch {
    // The stream's own trouble is shown already; the next opening asks again.
  }
}

/** The journal began anew, and with it the numbers. */
function forgetEvents() {
  store.events = [];
  store.eventsKnown = false;
  loadEvents();
}

function setConnection(state, retryAtMs = 0, fault = null) {
  const before = store.connection.state;
  store.connection = { state, retryAtMs, fault };
  if (before !== state || state === "down") tell("connection");
}

const statusStream = new Stream(
  () => api.url("/status/stream"),
  ["status"],
  {
    opened: () => {
      stopPolling();
      setConnection("live");
      // Also after a pause: the lines must not have a hole where nobody looked.
      loadSamples();
    },
    message: (_name, data) => takeStatus(parse(data)),
    lost: (retryAtMs, attempts) => lost(retryAtMs, attempts),
  },
  SILENCE_MS_MAX,
);

const eventStream = new Stream(
  () => api.url("/events/stream"),
  ["lagged", "reset"],
  {
    opened: () => loadEvents(),
    message: (name, data) => {
      if (name === "message") takeEvents([parse(data)]);
      else if (name === "reset") forgetEvents();
      else loadEvents();
    },
  },
);

let poll = 0;
function stopPolling() {
  clearTimeout(poll);
  poll = 0;
}

/** The stream is gone: ask, to learn whether the daemon is gone too. */
async function lost(retryAtMs, attempts) {
  try {
    takeStatus(await api.status());
    setConnection(attempts < 2 ? "live" : "polling", retryAtMs);
    if (1 < attempts) pollEach(POLL_MS);
  } catch (fault) {
    stopPolling();
    setConnection(fault.status === 401 || fault.status === 403 ? "refused" : "down", retryAtMs, fault);
  }
}

function pollEach(pause) {
  stopPolling();
  poll = setTimeout(async () => {
    try {
      takeStatus(await api.status());
      pollEach(pause);
      if (!document.hidden) loadEvents();
    } catch (fault) {
      if (!document.hidden) setConnection("down", Date.now() + POLL_MS, fault);
      pollEach(pause * 2 < 60000 ? pause * 2 : 60000);
    }
  }, pause);
}

/** Tries again at once. */
export function retryNow() {
  statusStream.retry();
  eventStream.retry();
}

/** Only pages that show events keep that stream: connections are few. */
export function wantEvents(wanted) {
  if (wanted && !document.hidden) eventStream.start();
  if (!wanted) eventStream.stop();
  eventsWanted = wanted;
}
let eventsWanted = true;

/** Asks for new events once, for pages without the stream. */
export const refreshEvents = () => loadEvents();

/** Begins. */
export async function start() {
  let sleeping = 0;
  document.addEventListener("visibilitychange", () => {
    clearTimeout(sleeping);
    if (document.hidden) {
      sleeping = setTimeout(() => {
        statusStream.stop();
        eventStream.stop();
        pollEach(POLL_HIDDEN_MS);
        tell("asleep", true);
      }, HIDDEN_GRACE_MS);
      return;
    }
    stopPolling();
    statusStream.start();
    if (eventsWanted) eventStream.start();
    tell("asleep", false);
  });
  askWho();
  on("connection", () => {
    if (store.connection.state === "live") askWho();
  });
  statusStream.start();
}

async function askWho() {
  try {
    const me = await api.whoami();
    store.me = { name: me.name ?? "", role: me.role ?? "read" };
    tell("me");
  } catch {
    // The connection's state tells it.
  }
}
