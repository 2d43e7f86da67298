// The rows of the table of services.
//
// Why: a row must cost little: a thousand of them are in the page, and a few are seen.
// Invariants: a row is painted in full when it is made, later only while it can be seen; painting changes what
// differs and nothing else.

import { h, setText, setAttr, show, replace } from "./dom.js";
import { icon } from "./icons.js";
import { store } from "./store.js";
import { stateOf, shownState, groupState, isAlive, canRestart, noteOf, workaroundOf } from "./states.js";
import { absolute, bytes, count, duration, nowUs, percent } from "./format.js";
import { sparkline } from "./sparkline.js";
import { rowButtons } from "./actions.js";

/** Least height of a memory line, as a part of the value: less is noise. */
export const MEMORY_NOISE = 0.3;
/** Least height of a CPU line, in per cent of a core. */
export const CPU_NOISE = 4;

/** A state as icon and word; `node.update(state, text)`. */
export function statePill() {
  const sign = h("span", { class: "state-sign" });
  const word = h("span", { class: "state-word" });
  const pill = h("span", { class: "state" }, sign, word);
  let shown = "";
  pill.update = (name, text) => {
    const state = stateOf(name);
    if (state.icon !== shown) replace(sign, icon((shown = state.icon)));
    setAttr(pill, "class", `state tone-${state.tone}`);
    setText(word, text ?? state.word);
  };
  return pill;
}

/** Says that a workaround is in force; `node.update(workaround)`. */
export function workaroundBadge() {
  const words = h("span");
  const node = h("span", { class: "badge", hidden: true }, icon("shield"), words);
  node.update = (workaround) => {
    show(node, Boolean(workaround));
    if (!workaround) return;
    const { saves, would_have: missed } = workaround;
    setAttr(node, "class", `badge tone-${0 < saves ? "warn" : "info"}`);
    setText(words, 0 < saves ? `saved ${saves} ×` : `observed ${missed} ×`);
    setAttr(node, "title", `${0 < saves ? `A workaround is in force: saved ${count(saves, "time")}` : `It would have been replaced ${count(missed, "time")}`}, since ${absolute(workaround.since_us)}. Last: ${workaround.last_cause}`);
  };
  return node;
}

function measures() {
  const memory = { value: h("span", { class: "measure-value" }), spark: sparkline("memory") };
  const cpu = { value: h("span", { class: "measure-value" }), spark: sparkline("cpu") };
  return {
    memory,
    cpu,
    cells: [
      h("div", { class: "cell c-memory", role: "cell", dataset: { label: "Memory" } }, memory.spark, memory.value),
      h("div", { class: "cell c-cpu", role: "cell", dataset: { label: "CPU" } }, cpu.spark, cpu.value),
    ],
  };
}

/** The row of one instance: `take` gives it what to show, `paint` shows it, `tick` moves its times on. */
export function instanceRow(isChild) {
  const pill = statePill();
  const link = h("a", { class: "row-link" });
  const port = h("span", { class: "port" });
  const badge = workaroundBadge();
  const description = h("span", { class: "description" });
  const pid = h("div", { class: "cell c-pid", role: "cell", dataset: { label: "PID" } });
  const uptime = h("div", { class: "cell c-uptime", role: "cell", dataset: { label: "Uptime" } });
  const restarts = h("div", { class: "cell c-restarts", role: "cell", dataset: { label: "Restarts" } });
  const { memory, cpu, cells } = measures();
  const actions = h("div", { class: "cell c-actions", role: "cell" });
  const row = h("div", { class: isChild ? "row is-child" : "row", role: "row" }, h("div", { class: "cell c-state", role: "cell" }, pill), h("div", { class: "cell c-name", role: "cell" }, h("span", { class: "name-line" }, link, port, badge), description), pid, uptime, restarts, cells, actions);
  let one = null;
  let service = null;
  let buttons = null;

  row.take = (instance, of) => {
    const isFirst = one === null;
    one = instance;
    service = of;
    if (isFirst) row.paint();
  };
  row.target = () => ({ name: one.name, alive: isAlive(one) });
  row.paint = () => {
    if (!one) return;
    const state = shownState(one);
    const { tone } = stateOf(state);
    setAttr(row, "data-tone", tone === "bad" || tone === "warn" ? tone : null);
    pill.update(state);
    badge.update(one.health?.workaround);
    setText(link, one.name);
    setAttr(link, "href", `/service/${encodeURIComponent(one.name)}`);
    setText(port, one.port ? `:${one.port}` : "");
    const note = noteOf(one);
    setText(description, note || (isChild ? "" : service.description));
    setAttr(description, "title", description.textContent);
    setAttr(description, "class", note && note !== one.status_text ? "description note" : "description");
    setText(pid, one.pid ? String(one.pid) : "–");
    setText(restarts, String(one.restarts));
    setAttr(restarts, "data-some", one.restarts ? true : null);
    row.tick();
    const ring = store.samples.get(one.name) ?? [];
    setText(memory.value, one.sample ? bytes(one.sample.rss_bytes) : "–");
    setText(cpu.value, one.sample ? percent(one.sample.cpu_percent) : "–");
    drawSparks(memory, cpu, one.sample ? ring : []);
    if (!buttons) actions.append((buttons = rowButtons(one.name)));
    buttons.update(isAlive(one), canRestart(one));
  };
  row.tick = () => {
    const passed = (nowUs() - (store.snapshot?.taken_us ?? nowUs())) / 1000;
    const next = one.next_ms === null || one.next_ms === undefined ? null : one.next_ms - passed;
    if (one.uptime_ms !== null && one.uptime_ms !== undefined) setText(uptime, duration(one.uptime_ms + passed));
    else if (one.state === "backoff" && next !== null) setText(uptime, next < 1000 ? "next try now" : `next try in ${duration(next)}`);
    else setText(uptime, "–");
  };
  return row;
}

function drawSparks(memory, cpu, ring) {
  const last = ring[ring.length - 1];
  memory.spark.draw(ring.map((sample) => sample.rss), (last?.rss ?? 0) * MEMORY_NOISE);
  cpu.spark.draw(ring.map((sample) => sample.cpu), CPU_NOISE);
}

/** The row above the instances of one service; `fold` is called when it is to be opened or closed. */
export function groupRow(fold) {
  const pill = statePill();
  const link = h("a", { class: "row-link" });
  const description = h("span", { class: "description" });
  const badge = workaroundBadge();
  const chevron = h("button", { class: "fold", type: "button", onclick: fold }, icon("chevron"));
  const restarts = h("div", { class: "cell c-restarts", role: "cell", dataset: { label: "Restarts" } });
  const { memory, cpu, cells } = measures();
  const actions = h("div", { class: "cell c-actions", role: "cell" });
  const row = h(
    "div",
    { class: "row is-group", role: "row" },
    h("div", { class: "cell c-state", role: "cell" }, pill),
    h("div", { class: "cell c-name", role: "cell" }, h("span", { class: "name-line" }, link, badge, chevron), description),
    h("div", { class: "cell c-pid", role: "cell" }),
    h("div", { class: "cell c-uptime", role: "cell" }),
    restarts,
    cells,
    actions,
  );
  let service = null;
  let buttons = null;
  row.folded = false;
  row.take = (taken, folded) => {
    const isFirst = service === null;
    service = taken;
    row.folded = folded;
    if (isFirst) row.paint();
  };
  row.target = () => ({ name: service.name, alive: service.instances.some(isAlive) });
  row.paint = () => {
    if (!service) return;
    const whole = groupState(service.instances);
    const tone = stateOf(whole.state).tone;
    setAttr(row, "data-tone", tone === "bad" || tone === "warn" ? tone : null);
    pill.update(whole.state, `${whole.running} of ${whole.total} up`);
    badge.update(workaroundOf(service.instances));
    setText(link, service.name);
    setAttr(link, "href", `/service/${encodeURIComponent(service.name)}`);
    setText(description, service.description);
    setAttr(description, "title", service.description);
    setAttr(chevron, "aria-expanded", String(!row.folded));
    setAttr(chevron, "aria-label", `${row.folded ? "Show" : "Hide"} the ${service.instances.length} instances of ${service.name}`);
    setText(restarts, String(service.instances.reduce((sum, one) => sum + one.restarts, 0)));
    setAttr(restarts, "data-some", restarts.textContent !== "0");
    const sampled = service.instances.filter((one) => one.sample);
    setText(memory.value, sampled.length ? bytes(sampled.reduce((sum, one) => sum + one.sample.rss_bytes, 0)) : "–");
    setText(cpu.value, sampled.length ? percent(sampled.reduce((sum, one) => sum + one.sample.cpu_percent, 0)) : "–");
    drawSparks(memory, cpu, addRings(sampled));
    if (!buttons) actions.append((buttons = rowButtons(service.name)));
    buttons.update(service.instances.some(isAlive), service.instances.some(canRestart));
  };
  return row;
}

/** The instances' lines added up, from their ends. */
function addRings(instances) {
  const rings = instances.map((one) => store.samples.get(one.name) ?? []);
  const shortest = Math.min(...rings.map((ring) => ring.length));
  if (!Number.isFinite(shortest)) return [];
  const sums = [];
  for (let back = Math.min(shortest, 60); 0 < back; back -= 1) {
    sums.push({ rss: rings.reduce((sum, ring) => sum + ring[ring.length - back].rss, 0), cpu: rings.reduce((sum, ring) => sum + ring[ring.length - back].cpu, 0) });
  }
  return sums;
}
