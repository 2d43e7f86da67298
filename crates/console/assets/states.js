// What states mean: words, icons, urgency, and the verdict on the whole node.
//
// Why: one place decides what needs attention, so that the header, the tiles and the rows never disagree.
// Invariants: pure; an unknown state is shown by its own name, as information.

import { count, list } from "./format.js";

const STATES = {
  failed: { word: "Failed", tone: "bad", rank: 0 },
  backoff: { word: "Retrying", tone: "warn", rank: 1 },
  waiting: { word: "Waiting", tone: "warn", rank: 2 },
  stopping: { word: "Stopping", tone: "info", rank: 3 },
  starting: { word: "Starting", tone: "info", rank: 4 },
  running: { word: "Running", tone: "ok", rank: 5 },
  finished: { word: "Finished", tone: "idle", rank: 6 },
  stopped: { word: "Stopped", tone: "idle", rank: 7 },
};

/** `{word, tone, rank, icon}` of a state's name; a lower rank is more urgent. */
export function stateOf(name) {
  const known = STATES[name];
  return known ? { ...known, icon: name } : { word: name || "Unknown", tone: "info", rank: 2, icon: "info" };
}

/** The most urgent state among instances, and how many run. */
export function groupState(instances) {
  let worst = null;
  let running = 0;
  for (const one of instances) {
    if (one.state === "running") running += 1;
    if (!worst || stateOf(one.state).rank < stateOf(worst).rank) worst = one.state;
  }
  return { state: worst ?? "stopped", running, total: instances.length };
}

/** True when there is something to stop. */
export const isAlive = (one) => ["running", "starting", "stopping", "backoff", "waiting"].includes(one.state);

/** True when there is something to restart: what only waits has nothing to stop. */
export const canRestart = (one) => isAlive(one) && one.state !== "waiting";

/** Counts over the whole node. */
export function summary(snapshot) {
  const found = { services: 0, instances: 0, running: 0, waiting: 0, failing: 0, changing: 0, down: 0, restarts: 0, rss: 0, cpu: 0, failingServices: [], waitingServices: [] };
  for (const service of snapshot?.services ?? []) {
    found.services += 1;
    let failing = false;
    let waiting = false;
    for (const one of service.instances) {
      found.instances += 1;
      found.restarts += one.restarts;
      found.rss += one.sample?.rss_bytes ?? 0;
      found.cpu += one.sample?.cpu_percent ?? 0;
      if (one.state === "running") found.running += 1;
      else if (one.state === "failed" || one.state === "backoff") { found.failing += 1; failing = true; }
      else if (one.state === "waiting") { found.waiting += 1; waiting = true; }
      else if (one.state === "starting" || one.state === "stopping") found.changing += 1;
      else found.down += 1;
    }
    if (failing) found.failingServices.push(service);
    else if (waiting) found.waitingServices.push(service.name);
  }
  // The hopeless ones are named before those that are still tried.
  found.failingServices = found.failingServices.sort((a, b) => groupRank(a) - groupRank(b)).map((service) => service.name);
  return found;
}

const groupRank = (service) => stateOf(groupState(service.instances).state).rank;

/** `{tone, icon, title, detail}`: the one sentence about the node. */
export function verdict(snapshot, connection = {}) {
  if (!snapshot) return unseen(connection);
  const found = summary(snapshot);
  if (snapshot.shutting_down) {
    return { tone: "info", icon: "stopping", title: "Shutting down", detail: "Services are being stopped in order." };
  }
  const { failingServices: failing, waitingServices: waiting } = found;
  if (0 < failing.length) {
    const blocked = waiting.length ? ` ${list(waiting)} ${waiting.length === 1 ? "waits" : "wait"} for what is missing.` : "";
    return {
      tone: "bad",
      icon: "failed",
      title: `${count(failing.length, "service needs", "services need")} attention`,
      detail: `${list(failing)} ${failing.length === 1 ? "does" : "do"} not stay up.${blocked}`,
    };
  }
  if (0 < waiting.length) {
    return { tone: "warn", icon: "waiting", title: `${count(waiting.length, "service is", "services are")} waiting`, detail: `${list(waiting)}: see why on the service's page.` };
  }
  if (found.services === 0) return { tone: "idle", icon: "stopped", title: "Nothing to keep alive yet", detail: "The configuration names no service." };
  if (found.running === 0 && found.changing === 0) return { tone: "idle", icon: "stopped", title: "Nothing is running", detail: "All services are stopped or have finished." };
  if (0 < found.changing) return { tone: "info", icon: "starting", title: "Services are changing", detail: `${count(found.changing, "instance is", "instances are")} starting or stopping.` };
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
  if (one.state === "running" || one.state === "finished") return one.status_text;
  return one.because?.[0]?.message || one.status_text || (one.last_exit ? `last run: ${one.last_exit}` : "");
}
