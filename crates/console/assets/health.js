// The health of one instance: what detectors say, what is done about it, and what was done so far.
//
// Why: a person who is told "zope was replaced" wants to see why, what goes on now, what was kept, and since
// when they have been living with it.
// Invariants: parts are made once and then only changed; nothing is shown of what there is not; the mode is
// changed by those who may act, and everybody sees who set it.

import { h, arrange, replace, prose, setAttr, setText, show } from "./dom.js";
import { icon } from "./icons.js";
import { store, mayAct } from "./store.js";
import { absolute, ago, clock, count, duration, nowUs, span } from "./format.js";
import { forecast, growth, numbersOf } from "./numbers.js";
import { perform, setMode } from "./actions.js";
import { statePill } from "./rows.js";
import { workaroundOf } from "./states.js";
import { trend } from "./trend.js";

const MODES = [
  ["off", "Off", "Nothing is looked at"],
  ["observe", "Observe", "Everything is computed and shown, nothing is touched"],
  ["enforce", "Enforce", "What is sick is replaced"],
];

const VERDICTS = {
  well: { icon: "running", tone: "ok", word: "Well" },
  sick: { icon: "sick", tone: "bad", word: "Sick" },
  cannot_tell: { icon: "unknown", tone: "idle", word: "Cannot tell" },
};

const DEPENDENCIES = {
  up: { icon: "running", tone: "ok", word: "Up" },
  slow: { icon: "waiting", tone: "warn", word: "Slow" },
  down: { icon: "failed", tone: "bad", word: "Down" },
  cannot_tell: { icon: "unknown", tone: "idle", word: "Cannot tell" },
};

/** The steps of a replacement, and what each means. */
const STEPS = {
  blame: ["Blame", "what it depends on has time to be found down"],
  evidence: ["Evidence", "what is seen is written down before anything is touched"],
  remedy: ["Remedy", "a finer action is tried first"],
  successor: ["Successor", "the next run is started"],
  warm_up: ["Warm-up", "the next run is warmed before it gets work"],
  drain: ["Drain", "it gets no new work; its connections are waited for"],
  stop: ["Stop", "the old run is ended, with everything it forked"],
};

/** Their order, where the runs may overlap and where not. */
const BESIDE = ["blame", "evidence", "remedy", "successor", "warm_up", "drain", "stop"];
const AFTER = ["blame", "evidence", "remedy", "drain", "stop", "successor", "warm_up"];

/** The card; `node.update(service, instance)`, `node.tick()`; `openEvidence(name)` shows a bundle. */
export function healthPanel(subject, openEvidence) {
  const pill = statePill();
  const mode = modeControl(subject);
  const workaround = workaroundStrip(subject, openEvidence);
  const held = h("p", { class: "health-strip tone-info", hidden: true });
  const replacing = replacingStrip();
  const verdicts = verdictList();
  const dependencies = dependencyList();
  const quarantined = quarantineList();
  const nothing = h("p", { class: "health-nothing" });
  const node = h(
    "section",
    { class: "card health", "aria-label": "Health", hidden: true },
    h("div", { class: "card-head" }, h("h2", null, "Health"), pill, h("div", { class: "card-tools" }, mode)),
    workaround,
    replacing,
    held,
    verdicts,
    nothing,
    dependencies,
    quarantined,
  );
  node.update = (service, instance) => {
    const health = instance.health;
    const isWhole = subject === service.name;
    const standing = health && workaroundOf(isWhole ? service.instances : [instance]);
    const isWatched = health && (0 < health.detectors || health.mode !== "off" || 0 < health.verdicts.length || 0 < health.dependencies.length || standing || health.replacing || 0 < health.quarantined.length);
    show(node, Boolean(isWatched));
    if (!isWatched) return;
    pill.update(health.state === "up" ? "running" : health.state === "down" ? "failed" : health.state, wordOf(health));
    mode.update(health);
    workaround.update(standing);
    replacing.update(health.replacing);
    show(held, Boolean(health.suppressed));
    if (health.suppressed) replace(held, icon("pause"), h("span", null, h("strong", null, "Nothing is done about it: "), prose(health.suppressed)));
    verdicts.update(instance, health);
    dependencies.update(health.dependencies);
    quarantined.update(health.quarantined);
    show(nothing, health.verdicts.length === 0);
    setText(nothing, health.mode === "off" ? `${count(health.detectors, "detector is", "detectors are")} configured; none looks while the mode is off.` : "No detector has said anything yet.");
  };
  node.tick = () => {
    if (node.hidden) return;
    workaround.tick();
    replacing.tick();
    verdicts.tick();
    quarantined.tick();
  };
  return node;
}

/** The state as balancers have it. */
function wordOf(health) {
  const words = { up: "In rotation", starting: "Starting", draining: "Draining", sick: "Sick", dependency_down: "Dependency down", stopped: "Stopped", down: "Down" };
  return words[health.state] ?? health.state;
}

function modeControl(subject) {
  const buttons = MODES.map(([mode, word, meaning]) => Object.assign(h("button", { class: "segment", type: "button", title: meaning, onclick: () => setMode(subject, mode) }, word), { mode }));
  const group = h("div", { class: "segments", role: "group", "aria-label": "Mode" }, buttons);
  const word = h("span", { class: "mode-word" });
  const by = h("span", { class: "mode-by" });
  const reset = h("button", { class: "link-button", type: "button", title: "As the configuration says", onclick: () => setMode(subject, "default") }, "Reset");
  const node = h("div", { class: "mode" }, by, reset, word, group);
  node.update = (health) => {
    const isOwn = health.mode_by === "configuration" || !health.mode_by;
    show(group, mayAct());
    show(word, !mayAct());
    show(reset, mayAct() && !isOwn);
    setText(word, `Mode: ${health.mode}`);
    setText(by, isOwn ? "" : `set by ${health.mode_by}`);
    for (const button of buttons) setAttr(button, "aria-pressed", String(button.mode === health.mode));
  };
  return node;
}

function workaroundStrip(subject, openEvidence) {
  const title = h("strong");
  const detail = h("span", { class: "health-detail" });
  const evidence = h("button", { class: "button tool", type: "button", onclick: () => openEvidence(shown.evidence) }, icon("evidence"), "Evidence");
  const mended = h("button", { class: "button tool", type: "button", title: "The fault is gone: end the workaround", onclick: () => perform("cured", subject) }, "Mended …");
  const node = h("div", { class: "health-strip tone-warn", hidden: true }, icon("shield"), h("div", { class: "health-words" }, title, detail), evidence, mended);
  let shown = null;
  node.update = (workaround) => {
    show(node, Boolean(workaround));
    show(mended, mayAct());
    shown = workaround;
    if (!shown) return;
    show(evidence, Boolean(shown.evidence) && mayAct());
    setAttr(evidence, "title", shown.evidence ? `${shown.evidence}, of the last one` : null);
    node.tick();
  };
  node.tick = () => {
    if (!shown) return;
    const passed = span((nowUs() - shown.since_us) / 1000);
    const saved = `Workaround in force for ${passed}: saved the service ${count(shown.saves, "time")}`;
    const would = `would have been replaced ${count(shown.would_have, "time")}`;
    if (shown.saves === 0) setText(title, `Observed for ${passed}: ${would}.`);
    else setText(title, 0 < shown.would_have ? `${saved}; ${would} while it was only observed.` : `${saved}.`);
    setAttr(node, "class", `health-strip tone-${0 < shown.saves ? "warn" : "info"}`);
    setAttr(title, "title", `since ${absolute(shown.since_us)}`);
    setText(detail, `Last ${ago(shown.last_us)}: ${shown.last_cause}`);
  };
  return node;
}

function replacingStrip() {
  const cause = h("p", { class: "health-cause" });
  const steps = new Map(Object.entries(STEPS).map(([step, [word, meaning]]) => [step, h("li", { class: "step", title: meaning }, word)]));
  const list = h("ol", { class: "steps", "aria-label": "Steps" });
  const now = h("span", { class: "step-now" });
  const left = h("span", { class: "step-left" });
  const bar = h("progress", { class: "step-bar", max: 1, value: 1, "aria-label": "Time left for this step" });
  const node = h("div", { class: "health-strip is-tall tone-info", hidden: true }, icon("replacing"), h("div", { class: "health-words" }, cause, list, h("div", { class: "step-line" }, now, left), bar));
  let shown = null;
  let ordered = null;
  let longest = 0;
  let key = "";
  node.update = (replacing) => {
    show(node, Boolean(replacing));
    shown = replacing;
    if (!shown) return;
    replace(cause, h("strong", null, "Being replaced: "), prose(shown.cause));
    const order = shown.beside ? BESIDE : AFTER;
    if (order !== ordered) replace(list, ...order.map((step) => steps.get(step)));
    ordered = order;
    for (const [step, item] of steps) setAttr(item, "aria-current", step === shown.step ? "step" : null);
    setText(now, sentence(STEPS[shown.step]?.[1] ?? shown.step));
    const mine = `${shown.step} ${shown.since_us}`;
    longest = mine === key ? Math.max(longest, shown.bound_ms ?? 0) : (shown.bound_ms ?? 0);
    key = mine;
    node.tick();
  };
  node.tick = () => {
    if (!shown) return;
    const hasBound = shown.bound_ms !== null && shown.bound_ms !== undefined;
    show(bar, hasBound && 0 < longest);
    const remaining = hasBound ? Math.max(0, shown.bound_ms - passedMs()) : 0;
    setText(left, hasBound ? `at most ${duration(remaining + 999)} more` : "");
    if (!bar.hidden) bar.value = Math.min(1, remaining / longest);
  };
  return node;
}

function verdictList() {
  const rows = new Map();
  const node = h("ul", { class: "verdicts", "aria-label": "Detectors" });
  let latest = null;
  node.update = (instance, health) => {
    latest = { instance, health };
    const sorted = [...health.verdicts].sort((a, b) => urgency(a) - urgency(b) || (a.exhausted_in_ms ?? 0) - (b.exhausted_in_ms ?? 0) || a.detector.localeCompare(b.detector));
    const wanted = sorted.map((verdict) => {
      let row = rows.get(verdict.detector);
      if (!row) rows.set(verdict.detector, (row = verdictRow()));
      row.update(verdict, instance, health.mode);
      return row;
    });
    arrange(node, wanted);
    const keep = new Set(health.verdicts.map((verdict) => verdict.detector));
    for (const name of rows.keys()) if (!keep.has(name)) rows.delete(name);
    show(node, 0 < wanted.length);
  };
  node.tick = () => {
    if (latest) for (const row of rows.values()) row.tick();
  };
  return node;
}

/** What is sick first, then what will be exhausted, then what nobody knows. */
function urgency(verdict) {
  if (verdict.state === "sick") return 0;
  if (willEnd(verdict)) return 1;
  return verdict.state === "well" ? 3 : 2;
}

const willEnd = (verdict) => verdict.exhausted_in_ms !== null && verdict.exhausted_in_ms !== undefined;

function verdictRow() {
  const sign = h("span", { class: "verdict-row-sign" });
  const word = h("span", { class: "visually-hidden" });
  const name = h("span", { class: "verdict-name" });
  const kind = h("span", { class: "verdict-kind" });
  const mode = h("span", { class: "badge tone-idle" });
  const message = h("p", { class: "verdict-message" });
  const drawing = trend();
  const slope = h("span", { class: "verdict-slope" });
  const ahead = h("strong", { class: "verdict-ahead" });
  const figure = h("div", { class: "verdict-figure" }, drawing, h("div", { class: "verdict-numbers" }, ahead, slope));
  const node = h("li", { class: "verdict-row" }, sign, h("div", { class: "verdict-body" }, h("p", { class: "verdict-line" }, name, word, kind, mode), message), figure);
  let one = null;
  let shownSign = "";
  node.update = (verdict, instance, serviceMode) => {
    one = verdict;
    const state = VERDICTS[verdict.state] ?? VERDICTS.cannot_tell;
    const numbers = numbersOf(verdict);
    const ends = willEnd(verdict);
    const tone = state.tone === "ok" && ends ? "warn" : state.tone;
    setAttr(node, "class", `verdict-row tone-${tone}`);
    const wanted = state.tone === "ok" && ends ? "warning" : state.icon;
    if (wanted !== shownSign) replace(sign, icon((shownSign = wanted)));
    setText(word, `: ${state.word}`);
    setText(name, verdict.detector);
    show(kind, verdict.kind !== verdict.detector);
    setText(kind, verdict.kind);
    show(mode, verdict.mode !== serviceMode);
    setText(mode, verdict.mode);
    setText(message, verdict.message);
    setAttr(message, "title", `since ${absolute(verdict.since_us)}`);
    const points = history(instance, verdict);
    setAttr(figure, "data-drawn", 1 < points.length);
    drawing.draw(points, { limit: numbers.limit, exhaustedMs: ends ? verdict.exhausted_in_ms : null });
    setText(slope, growth(numbers));
    show(figure, 1 < points.length || ends || slope.textContent !== "");
    node.tick();
  };
  node.tick = () => {
    if (one) setText(ahead, forecast(one, passedMs()));
  };
  return node;
}

/** What was measured of this run so far. */
const history = (instance, verdict) => store.trends.get(instance.name)?.rings.get(verdict.detector) ?? [];

function dependencyList() {
  const list = h("ul", { class: "health-dependencies" });
  const node = h("div", { class: "health-part", hidden: true }, h("h3", null, "Depends on"), list);
  let shown = "";
  node.update = (dependencies) => {
    show(node, 0 < dependencies.length);
    const key = JSON.stringify(dependencies);
    if (key === shown) return;
    shown = key;
    replace(list, dependencies.map((one) => {
      const state = DEPENDENCIES[one.state] ?? DEPENDENCIES.cannot_tell;
      return h("li", { class: `dependency-row tone-${state.tone}` }, icon(state.icon), h("span", { class: "dependency-name" }, one.name), h("span", { class: "dependency-message" }, h("span", { class: one.state === "up" ? "visually-hidden" : "dependency-word" }, `${state.word}: `), one.message));
    }));
  };
  return node;
}

function quarantineList() {
  const list = h("ul", { class: "health-kept" });
  const node = h("div", { class: "health-part", hidden: true }, h("h3", null, "Kept for inspection"), list);
  let rows = [];
  let shown = "";
  node.update = (kept) => {
    show(node, 0 < kept.length);
    const key = JSON.stringify(kept);
    if (key !== shown) {
      shown = key;
      rows = kept.map((one) => {
        const left = h("span", { class: "kept-left" });
        const item = h("li", null, icon("frozen"), h("span", null, h("strong", null, `Run ${one.run}`), one.pid ? `, pid ${one.pid}` : ""), left);
        return { one, left, item };
      });
      replace(list, rows.map((row) => row.item));
    }
    node.tick();
  };
  node.tick = () => {
    for (const { one, left } of rows) setText(left, `frozen; killed at ${clock(one.until_us)}, in ${span(Math.max(0, (one.until_us - nowUs()) / 1000))}`);
  };
  return node;
}

/** Since the snapshot was taken. */
const passedMs = () => (store.snapshot ? Math.max(0, (nowUs() - store.snapshot.taken_us) / 1000) : 0);

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");
