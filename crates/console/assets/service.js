// The page of one service, or of one of its instances: state, why, facts, charts, output, events.
//
// Why: everything needed to understand one service and to act stands on one page.
// Invariants: the page outlives its service (a reload may remove it) and says so; the chain of causes is asked
// again only when the state changes.

import * as api from "./api.js";
import { h, setText, setAttr, show, replace, arrange, prose } from "./dom.js";
import { icon } from "./icons.js";
import { store, on, mayAct, wantEvents, refreshEvents, loadTrends } from "./store.js";
import { stateOf, shownState, groupState, isAlive, canRestart } from "./states.js";
import { absolute, ago, bytes, count, duration, nowUs, percent } from "./format.js";
import { chart, sparkline, decimalStep, binaryStep } from "./sparkline.js";
import { perform } from "./actions.js";
import { eventList } from "./eventlist.js";
import { logView } from "./logview.js";
import { evidencePanel } from "./evidence.js";
import { healthPanel } from "./health.js";
import { statePill, MEMORY_NOISE } from "./rows.js";

/** Events on this page. */
const EVENTS_SHOWN = 40;
/** How often the events are asked for again while nothing seems to change. */
const EVENTS_MS = 10000;
const MIB = 1048576;

/** Builds the page of `subject` (`web` or `web:1`) into `main`. */
export function servicePage(main, subject) {
  const [serviceName] = subject.split(":");
  document.title = `${subject} · Holdfast`;
  wantEvents(false);

  const head = pageHead(subject);
  const strip = instanceStrip(serviceName, subject);
  const why = whyPanel(subject);
  const evidence = evidencePanel(subject);
  const health = healthPanel(subject, evidence.open);
  const facts = factsPanel();
  const memory = chart({ title: "Memory", kind: "memory", read: (one) => one.rss, write: bytes, rangeMin: MIB, ticks: binaryStep });
  const cpu = chart({ title: "CPU, of one core", kind: "cpu", read: (one) => one.cpu, write: percent, rangeMin: 4, ticks: decimalStep });
  const charts = h("div", { class: "charts" }, memory, cpu);
  const events = eventList({ limit: EVENTS_SHOWN, withSubject: false, empty: "No events of this service are kept." });
  const eventCard = h("section", { class: "card panel", "aria-label": "Events" }, h("div", { class: "card-head" }, h("h2", null, "Events"), h("div", { class: "card-tools" }, h("a", { class: "more", href: `/events?subject=${encodeURIComponent(subject)}` }, "All events"))), events);
  const logSlot = h("div", { class: "log-slot" });
  const gone = h("div", { class: "card empty", hidden: true }, h("h3", null, `There is no service ${subject}`), h("p", null, "It may have been removed by a reload, or never have had this name."), h("a", { class: "button", href: "/" }, "All services"));
  const content = h("div", { class: "service-page" }, strip, h("div", { class: "columns" }, h("div", { class: "stack" }, health, why, charts, logSlot), h("div", { class: "stack" }, facts, evidence, eventCard)));
  replace(main, head, gone, content);

  let shownKey = "";
  let log = null;
  let asked = [];

  const draw = () => {
    if (!store.snapshot) return;
    const service = store.snapshot.services.find((one) => one.name === serviceName);
    const instance = chosen(service, subject, strip.chosen());
    show(gone, !instance);
    show(content, Boolean(instance));
    head.update(service, instance);
    if (!instance) return;
    strip.update(service, instance);
    health.update(service, instance);
    facts.update(service, instance);
    drawCharts(instance);
    if (!log || log.instance !== instance.name) {
      log?.end();
      log = Object.assign(logView(instance.name, instance.log), { instance: instance.name });
      replace(logSlot, log);
      api.samples(instance.name).then((ring) => {
        if (ring.length) store.samples.set(instance.name, ring);
        drawCharts(instance);
      }).catch(() => {});
    }
    const key = `${instance.name} ${instance.state} ${instance.run} ${instance.since_us} ${instance.health?.workaround?.last_us} ${mayAct()} ${instance.because?.[0]?.message}`;
    if (key === shownKey) return;
    shownKey = key;
    loadTrends(instance.name);
    evidence.ask(instance);
    why.ask(instance.name);
    askEvents();
  };

  function drawCharts(instance) {
    const ring = store.samples.get(instance.name) ?? [];
    show(charts, instance.pid !== null || 1 < ring.length);
    memory.draw(ring);
    cpu.draw(ring);
  }

  async function askEvents() {
    try {
      asked = await api.events({ subject, limit: EVENTS_SHOWN });
      events.update(asked);
    } catch {
      // The connection's banner tells it.
    }
    refreshEvents();
  }

  const stops = [on("status", draw), on("me", draw)];
  const timer = setInterval(() => { head.tick(); health.tick(); evidence.tick(); facts.tick(); events.tick(); }, 1000);
  const eventTimer = setInterval(() => { if (!document.hidden) askEvents(); }, EVENTS_MS);
  strip.onChoose = () => { shownKey = ""; draw(); };
  draw();
  return {
    get search() { return log?.search; },
    rows: () => [],
    target: () => head.target(),
    get keys() { return { ...(log?.keys ?? {}), u: () => document.querySelector(".crumb a")?.click() }; },
    end() {
      stops.forEach((stop) => stop());
      clearInterval(timer);
      clearInterval(eventTimer);
      memory.end();
      cpu.end();
      log?.end();
    },
  };
}

/** The instance that the details are about: the one named, the one chosen, the one most in need, the first. */
function chosen(service, subject, choice) {
  if (!service || service.instances.length === 0) return null;
  if (subject !== service.name) return service.instances.find((one) => one.name === subject) ?? null;
  const picked = service.instances.find((one) => one.name === choice);
  if (picked) return picked;
  return [...service.instances].sort((a, b) => stateOf(shownState(a)).rank - stateOf(shownState(b)).rank)[0];
}

function pageHead(subject) {
  const [serviceName] = subject.split(":");
  const pill = statePill();
  const description = h("p", { class: "page-description" });
  const since = h("span", { class: "since" });
  const button = (action, label, sign, look = "") => h("button", { class: `button ${look}`, type: "button", onclick: () => perform(action, subject) }, icon(sign), h("span", null, label));
  const start = button("start", "Start", "play", "solid accent");
  const restart = button("restart", "Restart", "restart");
  const swap = button("replace", "Replace", "replacing");
  const stop = button("stop", "Stop", "stop");
  const reload = button("reload", "Reload", "reload");
  const signal = button("signal", "Signal …", "signal");
  const reset = button("reset", "Clear failure", "finished");
  const buttons = h("div", { class: "page-buttons" }, start, swap, restart, stop, reload, signal, reset);
  const note = h("p", { class: "read-only" }, icon("eye"), "You may look, but not act.");
  const crumb = h("nav", { class: "crumb", "aria-label": "Where you are" }, h("a", { href: "/" }, icon("back"), "Services"), subject === serviceName ? null : [h("span", { "aria-hidden": "true" }, "/"), h("a", { href: `/service/${encodeURIComponent(serviceName)}` }, serviceName)]);
  const node = h("section", { class: "page-head" }, crumb, h("div", { class: "page-line" }, h("h1", null, subject), pill, since, h("div", { class: "spacer" }), buttons, note, description));

  let one = null;
  let alive = false;
  node.target = () => (one ? { name: subject, alive } : null);
  node.update = (service, instance) => {
    one = instance;
    show(buttons, Boolean(instance) && mayAct());
    show(note, Boolean(instance) && !mayAct() && store.connection.state !== "connecting");
    show(pill, Boolean(instance));
    if (!instance) {
      setText(since, "");
      return;
    }
    const isWhole = subject === service.name && 1 < service.instances.length;
    const instances = isWhole ? service.instances : [instance];
    const whole = groupState(instances);
    pill.update(whole.state, isWhole ? `${whole.running} of ${whole.total} running` : undefined);
    setText(description, [service.description, instance.status_text && !isWhole ? `“${instance.status_text}”` : ""].filter(Boolean).join(" · "));
    alive = instances.some(isAlive);
    const failed = instances.some((each) => each.state === "failed");
    show(start, instances.some((each) => !isAlive(each)));
    show(restart, instances.some(canRestart));
    // Where nobody cares for its health, a restart says what happens.
    show(swap, instances.some((each) => each.state === "running" && each.health?.detectors));
    show(stop, alive);
    show(reload, service.can_reload && 0 < whole.running);
    show(signal, instances.some((each) => each.pid));
    show(reset, failed);
    node.tick();
  };
  node.tick = () => {
    if (!one) return;
    const passed = (nowUs() - store.snapshot.taken_us) / 1000;
    const next = one.next_ms === null || one.next_ms === undefined ? null : Math.max(0, one.next_ms - passed);
    const text = one.state === "backoff" && next !== null ? `next try in ${duration(next)}` : `since ${ago(one.since_us).replace(" ago", "")}`.replace("since now", "just now");
    setText(since, text.startsWith("since") ? `for ${duration((nowUs() - one.since_us) / 1000)}` : text);
    setAttr(since, "title", `since ${absolute(one.since_us)}`);
  };
  return node;
}

function instanceStrip(serviceName, subject) {
  let choice = "";
  const cards = new Map();
  const node = h("section", { class: "strip", "aria-label": "Instances", hidden: true });
  node.chosen = () => choice;
  node.update = (service, instance) => {
    const many = 1 < service.instances.length;
    show(node, many && subject === serviceName);
    if (node.hidden) return;
    const wanted = service.instances.map((one) => {
      let card = cards.get(one.name);
      if (!card) cards.set(one.name, (card = instanceCard(one.name, () => { choice = one.name; node.onChoose?.(); })));
      card.update(one, one.name === instance.name);
      return card;
    });
    arrange(node, wanted);
  };
  return node;
}

function instanceCard(name, choose) {
  const pill = statePill();
  const facts = h("span", { class: "strip-facts" });
  const spark = sparkline("memory");
  const node = h("button", { class: "strip-card", type: "button", onclick: choose }, h("span", { class: "strip-name" }, name), pill, facts, spark);
  node.update = (one, isChosen) => {
    setAttr(node, "aria-pressed", String(isChosen));
    pill.update(shownState(one));
    setText(facts, one.sample ? `${bytes(one.sample.rss_bytes)} · ${percent(one.sample.cpu_percent)}` : (one.last_exit ? `last end: ${one.last_exit}` : "not running"));
    const ring = store.samples.get(name) ?? [];
    spark.draw(one.sample ? ring.map((sample) => sample.rss) : [], (one.sample?.rss_bytes ?? 0) * MEMORY_NOISE);
  };
  return node;
}

function whyPanel() {
  const list = h("ol", { class: "why-chain" });
  const output = h("pre", { class: "why-output", hidden: true });
  const help = h("ul", { class: "why-help", hidden: true });
  const title = h("h2", null, "Why");
  const node = h("section", { class: "card why", "aria-label": "Why it is in this state", hidden: true }, h("div", { class: "card-head" }, title), list, output, help);
  let latest = 0;
  node.ask = async (subject) => {
    const mine = (latest += 1);
    let answer = null;
    try {
      answer = await api.why(subject);
    } catch {
      // What the snapshot says is better than nothing.
      const one = store.snapshot?.services.flatMap((service) => service.instances).find((each) => each.name === subject);
      answer = { state: one?.state, chain: one?.because ?? [], last_output: [], help: [] };
    }
    if (mine !== latest || !answer) return;
    const chain = answer.chain ?? [];
    show(node, 0 < chain.length);
    setAttr(node, "class", `card why tone-${stateOf(answer.state).tone}`);
    setText(title, answer.state === "failed" ? "Why it failed" : `Why it is ${stateOf(answer.state).word.toLowerCase()}`);
    replace(list, chain.map((link, n) => whyStep(link, n, chain.length, subject)));
    show(output, 0 < (answer.last_output ?? []).length);
    setText(output, (answer.last_output ?? []).join("\n"));
    show(help, 0 < (answer.help ?? []).length);
    replace(help, (answer.help ?? []).map((text) => h("li", null, prose(text))));
  };
  return node;
}

function whyStep(link, n, length, subject) {
  const isRoot = n === length - 1 && 1 < length;
  const who = link.subject === subject || link.subject === "holdfast" ? h("span", { class: "why-subject" }, link.subject) : h("a", { class: "why-subject", href: `/service/${encodeURIComponent(link.subject)}` }, link.subject);
  return h("li", { class: isRoot ? "is-root" : null }, h("p", { class: "why-who" }, who, isRoot ? h("span", { class: "badge" }, "root cause") : null), h("p", { class: "why-message" }, prose(link.message)));
}

function factsPanel() {
  const rows = new Map();
  const list = h("dl", { class: "facts" });
  const node = h("section", { class: "card", "aria-label": "Facts" }, h("div", { class: "card-head" }, h("h2", null, "Facts")), list);
  let one = null;
  const names = ["Main process", "Uptime", "Run", "Restarts", "Last end", "Port", "Processes", "Requires", "Wants", "After", "Required by", "Command", "Control group"];
  for (const name of names) {
    const value = h("dd");
    const row = h("div", { class: `fact${["Command", "Control group"].includes(name) ? " is-wide" : ""}`, hidden: true }, h("dt", null, name), value);
    rows.set(name, { row, value, text: null });
    list.append(row);
  }
  const put = (name, text) => {
    const entry = rows.get(name);
    show(entry.row, text !== null && text !== undefined && text !== "");
    setText(entry.value, text ?? "");
  };
  const putLinks = (name, targets) => {
    const entry = rows.get(name);
    const key = targets.map((target) => `${target.name} ${target.tone}`).join();
    show(entry.row, 0 < targets.length);
    if (entry.text === key) return;
    entry.text = key;
    replace(entry.value, targets.map((target) => h("a", { class: `dependency tone-${target.tone}`, href: `/service/${encodeURIComponent(target.name)}`, title: target.word }, icon(target.icon), target.name, h("span", { class: "visually-hidden" }, `, ${target.word}`))));
  };
  node.update = (service, instance) => {
    one = instance;
    put("Main process", instance.pid ? `pid ${instance.pid}` : "none");
    put("Restarts", String(instance.restarts));
    put("Last end", instance.last_exit);
    put("Port", instance.port ? String(instance.port) : null);
    put("Processes", instance.sample ? processes(instance.sample) : null);
    put("Command", service.command.map(quoted).join(" "));
    put("Control group", instance.cgroup);
    putLinks("Requires", service.requires.map(stateOfService));
    putLinks("Wants", service.wants.map(stateOfService));
    putLinks("After", service.after.filter((name) => !service.requires.includes(name) && !service.wants.includes(name)).map(stateOfService));
    putLinks("Required by", store.snapshot.services.filter((each) => each.requires.includes(service.name)).map((each) => stateOfService(each.name)));
    node.tick();
  };
  node.tick = () => {
    if (!one) return;
    const passed = (nowUs() - store.snapshot.taken_us) / 1000;
    put("Uptime", one.uptime_ms === null || one.uptime_ms === undefined ? null : duration(one.uptime_ms + passed));
  };
  return node;
}

/** `3, with 12 threads`. */
function processes(sample) {
  const threads = sample.threads ? `with ${count(sample.threads, "thread")}` : "";
  return [sample.processes ? String(sample.processes) : "", threads].filter(Boolean).join(", ");
}

function stateOfService(name) {
  const service = store.snapshot.services.find((one) => one.name === name);
  const state = stateOf(groupState(service?.instances ?? []).state);
  return { name, ...state };
}

/** As one would type it in a shell. */
function quoted(word) {
  return /^[\w@%+=:,./{}-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}
