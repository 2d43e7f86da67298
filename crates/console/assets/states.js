// What states mean: words, icons, urgency, and the verdict on the whole node.
//
// Why: one place decides what needs attention, so that the header, the tiles and the rows never disagree.
// Invariants: pure; an unknown state is shown by its own name, as information.

import { count, list } from "./format.js";

const STATES = {
  failed: { word: "Failed", tone: "bad", rank: 0 },
  sick: { word: "Sick", tone: "bad", rank: 1 },
  backoff: { word: "Retrying", tone: "warn", rank: 2 },
  waiting: { word: "Waiting", tone: "warn", rank: 3 },
  dependency_down: { word: "Dependency", tone: "warn", rank: 4 },
  replacing: { word: "Replacing", tone: "info", rank: 5 },
  draining: { word: "Draining", tone: "info", rank: 6 },
  stopping: { word: "Stopping", tone: "info", rank: 7 },
  starting: { word: "Starting", tone: "info", rank: 8 },
  running: { word: "Running", tone: "ok", rank: 9 },
  finished: { word: "Finished", tone: "idle", rank: 10 },
  stopped: { word: "Stopped", tone: "idle", rank: 11 },
};

/** States that pass by themselves. */
const PASSING = ["starting", "stopping", "draining", "replacing"];
/** States in which the process runs and is not as it should be. */
const AILING = ["sick", "draining", "dependency_down"];

/** `{word, tone, rank, icon}` of a state's name; a lower rank is more urgent. */
export function stateOf(name) {
  const known = STATES[name];
  return known ? { ...known, icon: name } : { word: name || "Unknown", tone: "info", rank: 3, icon: "info" };
}

/** The state of an instance as it is shown: a process that runs may be sick, or be drained all the same. */
export function shownState(one) {
  const health = one.health;
  if (!health) return one.state;
  if (health.replacing) return "replacing";
  return one.state === "running" && AILING.includes(health.state) ? health.state : one.state;
}

/** True while it is between two states that last. */
export const isPassing = (state) => PASSING.includes(state);

/** The most urgent state among instances, and how many run. */
export function groupState(instances) {
  let worst = null;
  let running = 0;
  for (const one of instances) {
    const state = shownState(one);
    if (one.state === "running") running += 1;
    if (!worst || stateOf(state).rank < stateOf(worst).rank) worst = state;
  }
  return { state: worst ?? "stopped", running, total: instances.length };
}

/** True when there is something to stop. */
export const isAlive = (one) => ["running", "starting", "stopping", "backoff", "waiting"].includes(one.state);

/** True when there is something to restart: what only waits has nothing to stop. */
export const canRestart = (one) => isAlive(one) && one.state !== "waiting";

/** Counts over the whole node. */
export function summary(snapshot) {
  const found = { services: 0, instances: 0, running: 0, waiting: 0, failing: 0, changing: 0, down: 0, restarts: 0, rss: 0, cpu: 0, failingServices: [], sickServices: [], waitingServices: [], strandedServices: [] };
  for (const service of snapshot?.services ?? []) {
    found.services += 1;
    const states = new Set();
    for (const one of service.instances) {
      found.instances += 1;
      found.restarts += one.restarts;
      found.rss += one.sample?.rss_bytes ?? 0;
      found.cpu += one.sample?.cpu_percent ?? 0;
      const state = shownState(one);
      states.add(state);
      if (state === "running") found.running += 1;
      else if (["failed", "backoff", "sick"].includes(state)) found.failing += 1;
      else if (state === "waiting" || state === "dependency_down") found.waiting += 1;
      else if (isPassing(state)) found.changing += 1;
      else found.down += 1;
    }
    if (states.has("failed") || states.has("backoff")) found.failingServices.push(service);
    else if (states.has("sick")) found.sickServices.push(service.name);
    else if (states.has("waiting")) found.waitingServices.push(service.name);
    else if (states.has("dependency_down")) found.strandedServices.push(service.name);
  }
  // The hopeless ones are named before those that are still tried.
  found.failingServices = found.failingServices.sort((a, b) => groupRank(a) - groupRank(b)).map((service) => service.name);
  found.attention = found.failingServices.length + found.sickServices.length;
  return found;
}

/**
 * The workaround in force among instances, added up, or null: `{since_us, saves, would_have, last_us, last_cause,
 * evidence}` as the daemon tells it of one instance.
 */
export function workaroundOf(instances) {
  const all = instances.map((one) => one.health?.workaround).filter(Boolean);
  if (all.length === 0) return null;
  const last = all.reduce((newest, one) => (newest.last_us < one.last_us ? one : newest));
  const sum = (read) => all.reduce((total, one) => total + read(one), 0);
  return { ...last, since_us: Math.min(...all.map((one) => one.since_us)), saves: sum((one) => one.saves), would_have: sum((one) => one.would_have) };
}

/** Services with a workaround in force: `{name, workaround}`, those that were saved most first. */
export function workarounds(snapshot) {
  const all = (snapshot?.services ?? []).map((service) => ({ name: service.name, workaround: workaroundOf(service.instances) }));
  return all.filter((one) => one.workaround).sort((a, b) => b.workaround.saves - a.workaround.saves || b.workaround.would_have - a.workaround.would_have);
}

const groupRank = (service) => stateOf(groupState(service.instances).state).rank;

/** `{tone, icon, title, detail}`: the one sentence about the node. */
export function verdict(snapshot, connection = {}) {
  if (!snapshot) return unseen(connection);
  const found = summary(snapshot);
  if (snapshot.shutting_down) {
    return { tone: "info", icon: "stopping", title: "Shutting down", detail: "Services are being stopped in order." };
  }
  const { failingServices: failing, sickServices: sick, waitingServices: waiting, strandedServices: stranded } = found;
  if (0 < found.attention) {
    const words = [
      failing.length ? `${list(failing)} ${failing.length === 1 ? "does" : "do"} not stay up.` : "",
      sick.length ? `${list(sick)} ${sick.length === 1 ? "is" : "are"} sick.` : "",
      waiting.length ? `${list(waiting)} ${waiting.length === 1 ? "waits" : "wait"} for what is missing.` : "",
    ];
    return {
      tone: "bad",
      icon: failing.length ? "failed" : "sick",
      title: `${count(found.attention, "service needs", "services need")} attention`,
      detail: words.filter(Boolean).join(" "),
    };
  }
  if (0 < waiting.length) {
    return { tone: "warn", icon: "waiting", title: `${count(waiting.length, "service is", "services are")} waiting`, detail: `${list(waiting)}: see why on the service's page.` };
  }
  if (0 < stranded.length) {
    return { tone: "warn", icon: "dependency_down", title: `${count(stranded.length, "service misses", "services miss")} a dependency`, detail: `${list(stranded)} ${stranded.length === 1 ? "runs" : "run"}, but what ${stranded.length === 1 ? "it depends" : "they depend"} on is down or slow.` };
  }
  if (found.services === 0) return { tone: "idle", icon: "stopped", title: "Nothing to keep alive yet", detail: "The configuration names no service." };
  if (found.running === 0 && found.changing === 0) return { tone: "idle", icon: "stopped", title: "Nothing is running", detail: "All services are stopped or have finished." };
  if (0 < found.changing) return { tone: "info", icon: "starting", title: "Services are changing", detail: `${count(found.changing, "instance is", "instances are")} starting, stopping or being replaced.` };
  const asleep = found.down ? ` ${count(found.down, "instance is", "instances are")} stopped or finished, as wanted.` : "";
  return { tone: "ok", icon: "running", title: "All services healthy", detail: `${count(found.running, "instance runs", "instances run")}.${asleep}` };
}

/** The verdict before anything was seen. */
function unseen({ state, fault }) {
  if (state === "refused") return { tone: "bad", icon: "failed", title: "You may not look at this console", detail: [fault?.message, fault?.help].filter(Boolean).join(". ") };
  if (state === "down") return { tone: "bad", icon: "failed", title: "Holdfast does not answer", detail: "This page tries again by itself. On the machine, `holdfast status` tells more." };
  return { tone: "idle", icon: "starting", title: "Looking …", detail: "" };
}

/** The services that would be stopped with this one, because they require it (recursively). */
export function dependants(snapshot, name) {
  const found = new Set([name]);
  for (let grown = true; grown; ) {
    grown = false;
    for (const service of snapshot?.services ?? []) {
      if (found.has(service.name) || !service.requires.some((one) => found.has(one))) continue;
      found.add(service.name);
      grown = true;
    }
  }
  found.delete(name);
  const alive = (snapshot?.services ?? []).filter((service) => found.has(service.name) && service.instances.some(isAlive));
  return alive.map((service) => service.name).sort();
}

/** The sentence under the name in a row: why it is not simply running. */
export function noteOf(one) {
  const health = one.health ?? {};
  if (health.replacing) return health.replacing.cause;
  if (one.state === "running" && health.suppressed) return health.suppressed;
  const sick = (health.verdicts ?? []).find((verdict) => verdict.state === "sick");
  if (one.state === "running" && sick) return `${sick.detector}: ${sick.message}`;
  const missing = (health.dependencies ?? []).find((each) => each.state !== "up");
  if (one.state === "running" && health.state === "dependency_down" && missing) return `${missing.name}: ${missing.message}`;
  if (one.state === "running" || one.state === "finished") return one.status_text;
  return one.because?.[0]?.message || one.status_text || (one.last_exit ? `last run: ${one.last_exit}` : "");
}
