// The first page: the verdict, the tiles, all services, and what happened lately.
//
// Why: within a second a person must know whether all is well, and if not, what to look at.
// Invariants: rows are made once per instance and then only changed; a row outside the window is not drawn
// anew; the focus stays on its row when rows are sorted.

import { h, setText, setAttr, show, replace, arrange } from "./dom.js";
import { icon } from "./icons.js";
import { store, on, endsLastHour, wantEvents } from "./store.js";
import { summary, verdict, isPassing, shownState, stateOf, workarounds } from "./states.js";
import { bytes, count, duration, nowUs, percent, span } from "./format.js";
import { sparkline } from "./sparkline.js";
import { instanceRow, groupRow, MEMORY_NOISE, CPU_NOISE } from "./rows.js";
import { eventList } from "./eventlist.js";

/** Events beside the services. */
const PANEL_EVENTS_MAX = 60;
/** Workarounds that are named; the rest is counted. */
const STANDING_MAX = 3;
/** Services with more instances than this begin folded. */
const UNFOLDED_MAX = 6;

const COLUMNS = [
  ["state", "State", "c-state"],
  ["name", "Service", "c-name"],
  ["pid", "PID", "c-pid"],
  ["uptime", "Uptime", "c-uptime"],
  ["restarts", "Restarts", "c-restarts"],
  ["memory", "Memory", "c-memory"],
  ["cpu", "CPU", "c-cpu"],
];

/** What a person chose stays when they come back from another page. */
const choice = { text: "", group: "", sort: "state", down: false, folds: new Map() };

/** Builds the page into `main`; returns how to end it, and what the keyboard needs. */
export function overview(main) {
  const head = verdictHead();
  const tiles = tileRow(() => table.draw());
  const table = serviceTable();
  const panel = eventPanel();
  const standing = workaroundStrip();
  document.title = "Holdfast";
  wantEvents(true);

  const columns = h("div", { class: "columns" }, table, panel);
  replace(main, head, tiles, standing, columns);
  const draw = () => {
    const isBlind = !store.snapshot && store.connection.state !== "connecting";
    show(tiles, !isBlind);
    show(columns, !isBlind);
    head.update();
    tiles.update();
    standing.update();
    table.draw();
  };
  const stops = [on("status", draw), on("me", draw), on("connection", draw), on("events", () => { panel.update(); tiles.update(); })];
  const clockTimer = setInterval(() => { table.tick(); panel.tick(); }, 1000);
  draw();
  panel.update();
  return {
    search: table.search,
    rows: table.rowLinks,
    target: table.targetOf,
    end() {
      stops.forEach((stop) => stop());
      clearInterval(clockTimer);
      table.end();
    },
  };
}

function verdictHead() {
  const sign = h("span", { class: "verdict-sign" });
  const title = h("h1", { class: "verdict-title" });
  const detail = h("p", { class: "verdict-detail" });
  const facts = h("p", { class: "verdict-facts" });
  const node = h("section", { class: "verdict", "aria-label": "Verdict" }, sign, h("div", { class: "verdict-words" }, title, detail), facts);
  let shown = "";
  node.update = () => {
    const { snapshot } = store;
    const found = verdict(snapshot, store.connection);
    if (found.icon !== shown) replace(sign, icon((shown = found.icon)));
    setAttr(node, "class", `verdict tone-${found.tone}`);
    setText(title, found.title);
    setText(detail, found.detail);
    if (snapshot) setText(facts, `Holdfast ${snapshot.version} · pid ${snapshot.pid} · up ${duration((nowUs() - snapshot.started_us) / 1000)}`);
  };
  return node;
}

/** Workarounds are said as long as they are in force, so that none becomes permanent unnoticed. */
function workaroundStrip() {
  const words = h("span", { class: "banner-text" });
  const node = h("section", { class: "banner standing", "aria-label": "Workarounds", hidden: true }, icon("shield"), words);
  let shown = "";
  node.update = () => {
    const all = workarounds(store.snapshot).map((one) => ({ ...one, ms: (nowUs() - one.workaround.since_us) / 1000 }));
    show(node, 0 < all.length);
    const key = all.map(({ name, workaround, ms }) => `${name} ${workaround.saves} ${workaround.would_have} ${span(ms)}`).join();
    if (key === shown) return;
    shown = key;
    const saved = all.filter(({ workaround }) => 0 < workaround.saves);
    const seen = all.filter(({ workaround }) => workaround.saves === 0);
    setAttr(node, "class", `banner standing tone-${saved.length ? "warn" : "info"}`);
    replace(
      words,
      saved.length ? [h("strong", null, saved.length === 1 ? "A workaround is in force: " : `${saved.length} workarounds are in force: `), named(saved, ({ saves }) => `saved ${count(saves, "time")}`), ". The fault itself is still there. "] : null,
      seen.length ? [h("strong", null, "Observed: "), named(seen, ({ would_have: missed }) => `would have been replaced ${count(missed, "time")}`), "."] : null,
    );
  };
  return node;
}

/** Services with what was done for each, the first few by name. */
function named(all, what) {
  const pieces = all.slice(0, STANDING_MAX).map(({ name, workaround, ms }, n) => [n ? " · " : null, h("a", { class: "standing-name", href: `/service/${encodeURIComponent(name)}` }, name), ` ${what(workaround)} in ${span(ms)}`]);
  return STANDING_MAX < all.length ? [...pieces, ` and ${all.length - STANDING_MAX} more`] : pieces;
}

function tileRow(changed) {
  const tile = (group, label, sign) => {
    const number = h("span", { class: "tile-number" }, "–");
    const note = h("span", { class: "tile-note" });
    const body = [h("span", { class: "tile-label" }, sign ? icon(sign) : null, label), number, note];
    const node = group ? h("button", { class: "tile", type: "button", "aria-pressed": "false", title: `Show only these` }, body) : h("div", { class: "tile" }, body);
    if (group) node.addEventListener("click", () => {
      choice.group = choice.group === group ? "" : group;
      row.update();
      changed();
    });
    return Object.assign(node, { number, note, group });
  };
  const running = tile("running", "Running", "running");
  const waiting = tile("waiting", "Waiting", "waiting");
  const failing = tile("failing", "Failing", "failed");
  const restarts = tile("", "Unplanned ends", "restart");
  const memory = tile("", "Memory");
  const cpu = tile("", "CPU");
  memory.spark = sparkline("memory");
  cpu.spark = sparkline("cpu");
  memory.append(memory.spark);
  cpu.append(cpu.spark);
  memory.classList.add("tile-wide");
  cpu.classList.add("tile-wide");
  const row = h("section", { class: "tiles", "aria-label": "Summary" }, running, waiting, failing, restarts, memory, cpu);
  row.update = () => {
    if (!store.snapshot) return;
    const found = summary(store.snapshot);
    setText(running.number, String(found.running));
    setText(running.note, `of ${count(found.instances, "instance")}`);
    setText(waiting.number, String(found.waiting + found.changing));
    setText(waiting.note, found.changing ? `${found.changing} changing` : "for something else");
    setText(failing.number, String(found.failing));
    setText(failing.note, found.failing ? "failed or sick" : "none");
    const ends = endsLastHour();
    setText(restarts.number, String(ends));
    setText(restarts.note, "in the last hour");
    setAttr(restarts, "title", `${count(found.restarts, "restart")} since the services are known`);
    const last = store.total[store.total.length - 1];
    setText(memory.number, bytes(found.rss));
    setText(memory.note, "all services");
    setText(cpu.number, percent(found.cpu));
    setText(cpu.note, "of one core");
    if (last && 0 < found.instances) {
      memory.spark.draw(store.total.map((one) => one.rss), found.rss * MEMORY_NOISE);
      cpu.spark.draw(store.total.map((one) => one.cpu), CPU_NOISE);
    }
    setAttr(running, "data-tone", found.running ? "ok" : null);
    setAttr(waiting, "data-tone", found.waiting ? "warn" : null);
    setAttr(failing, "data-tone", found.failing ? "bad" : null);
    setAttr(restarts, "data-tone", ends ? "warn" : null);
    for (const one of [running, waiting, failing]) setAttr(one, "aria-pressed", String(choice.group === one.group));
  };
  return row;
}

const GROUPS = {
  running: ["running"],
  waiting: ["waiting", "dependency_down", "starting", "stopping", "draining", "replacing"],
  failing: ["failed", "backoff", "sick"],
};

function serviceTable() {
  const search = h("input", { class: "input", type: "search", placeholder: "Filter services", "aria-label": "Filter services", autocomplete: "off", spellcheck: "false" });
  search.value = choice.text;
  const order = h("select", { class: "input select sort-select", "aria-label": "Sort by" }, COLUMNS.map(([key, label]) => h("option", { value: key }, `Sort: ${label.toLowerCase()}`)));
  const found = h("span", { class: "found", "aria-live": "polite" });
  const heads = COLUMNS.map(([key, label, cell]) => {
    const button = h("button", { class: "sort", type: "button", onclick: () => sortBy(key) }, label, h("span", { class: "sort-sign", "aria-hidden": "true" }));
    return Object.assign(h("div", { class: `cell ${cell}`, role: "columnheader" }, button), { key });
  });
  const head = h("div", { class: "row row-head", role: "row" }, heads, h("div", { class: "cell c-actions", role: "columnheader" }, h("span", { class: "visually-hidden" }, "Actions")));
  const body = h("div", { class: "rows", role: "rowgroup" });
  const empty = h("div", { class: "empty", hidden: true });
  const node = h(
    "section",
    { class: "card services", "aria-label": "Services" },
    h("div", { class: "card-head" }, h("h2", null, "Services"), found, h("div", { class: "card-tools" }, h("label", { class: "search" }, icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/")), order)),
    h("div", { class: "table", role: "table", "aria-label": "Services" }, h("div", { class: "head-group", role: "rowgroup" }, head), body),
    empty,
  );

  const rows = new Map();
  const inView = new Set();
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        inView.add(entry.target);
        entry.target.paint();
      } else inView.delete(entry.target);
    }
  }, { rootMargin: "200px" });

  search.addEventListener("input", () => {
    choice.text = search.value;
    node.draw();
  });
  order.addEventListener("change", () => sortBy(order.value));

  function sortBy(key) {
    choice.down = choice.sort === key ? !choice.down : false;
    choice.sort = key;
    node.draw();
  }

  function rowFor(key, make) {
    let row = rows.get(key);
    if (!row) {
      rows.set(key, (row = make()));
      seen.observe(row);
    }
    return row;
  }

  node.draw = () => {
    const services = store.snapshot?.services ?? [];
    const wanted = [];
    let shown = 0;
    for (const { service, instances } of sorted(services.map(matching).filter(Boolean))) {
      shown += 1;
      if (service.instances.length === 1) {
        const row = rowFor(service.instances[0].name, () => instanceRow(false));
        row.take(service.instances[0], service);
        wanted.push(row);
        continue;
      }
      const folded = choice.folds.get(service.name) ?? (UNFOLDED_MAX < service.instances.length && !choice.text && !choice.group);
      const group = rowFor(`${service.name}/`, () => groupRow(() => {
        choice.folds.set(service.name, !group.folded);
        node.draw();
      }));
      group.take(service, folded);
      wanted.push(group);
      if (folded) continue;
      for (const one of instances) {
        const row = rowFor(one.name, () => instanceRow(true));
        row.take(one, service);
        wanted.push(row);
      }
    }
    arrange(body, wanted);
    forget(services);
    for (const row of inView) row.paint();
    drawHead(shown, services.length);
  };

  function forget(services) {
    const alive = new Set();
    for (const service of services) {
      alive.add(`${service.name}/`);
      for (const one of service.instances) alive.add(one.name);
    }
    for (const [key, row] of rows) {
      if (alive.has(key)) continue;
      rows.delete(key);
      inView.delete(row);
      seen.unobserve(row);
    }
  }

  function drawHead(shown, total) {
    for (const cell of heads) {
      const active = cell.key === choice.sort;
      setAttr(cell, "aria-sort", active ? (choice.down ? "descending" : "ascending") : null);
    }
    if (order.value !== choice.sort) order.value = choice.sort;
    setText(found, shown === total ? count(total, "service") : `${shown} of ${count(total, "service")}`);
    show(empty, shown === 0 && store.snapshot !== null);
    if (shown !== 0 || store.snapshot === null) return;
    if (total === 0) emptyConfiguration(empty);
    else replace(empty, h("p", null, "No service matches."), h("button", { class: "button", type: "button", onclick: clear }, "Show all services"));
  }

  function clear() {
    choice.text = search.value = "";
    choice.group = "";
    node.draw();
    node.dispatchEvent(new CustomEvent("cleared", { bubbles: true }));
  }

  node.tick = () => {
    for (const row of inView) row.tick?.();
  };
  node.search = search;
  node.rowLinks = () => [...body.querySelectorAll(".row-link")];
  node.targetOf = (element) => element?.closest?.(".row")?.target?.() ?? null;
  node.end = () => seen.disconnect();
  return node;
}

function emptyConfiguration(empty) {
  replace(
    empty,
    h("h3", null, "No services yet"),
    h("p", null, "Name one in the configuration, then run ", h("code", null, "holdfast reload"), ":"),
    h("pre", null, '[service.web]\ncommand = ["python3", "-m", "http.server", "8080"]'),
  );
}

/** The service with those of its instances that match the filter, or null. */
function matching(service) {
  const text = choice.text.trim().toLowerCase();
  const states = GROUPS[choice.group];
  const hit = (words) => words.toLowerCase().includes(text);
  const whole = !text || hit(`${service.name} ${service.description}`);
  const instances = service.instances.filter((one) => (!states || states.includes(shownState(one))) && (whole || hit(`${one.name} ${one.state} ${stateOf(shownState(one)).word} ${one.pid ?? ""} ${one.port ? `:${one.port}` : ""}`)));
  if (instances.length === 0 && (service.instances.length !== 0 || !whole || states)) return null;
  return { service, instances };
}

function sorted(found) {
  const sum = (service, read) => service.instances.reduce((total, one) => total + (read(one) ?? 0), 0);
  const keys = {
    state: (service) => Math.min(...service.instances.map((one) => attention(shownState(one)))),
    name: () => 0,
    pid: (service) => service.instances[0]?.pid ?? Infinity,
    uptime: (service) => Math.min(...service.instances.map((one) => one.uptime_ms ?? Infinity)),
    restarts: (service) => -sum(service, (one) => one.restarts),
    memory: (service) => -sum(service, (one) => one.sample?.rss_bytes),
    cpu: (service) => -sum(service, (one) => one.sample?.cpu_percent),
  };
  const key = keys[choice.sort];
  const way = choice.down ? -1 : 1;
  return found
    .map((one) => ({ ...one, key: key(one.service) }))
    .sort((a, b) => way * (a.key < b.key ? -1 : b.key < a.key ? 1 : a.service.name.localeCompare(b.service.name, "en", { numeric: true })));
}

/** Rows should not jump for a moment's change: what passes by itself sorts as running. */
function attention(state) {
  return isPassing(state) ? stateOf("running").rank : stateOf(state).rank;
}

function eventPanel() {
  const list = eventList({ limit: PANEL_EVENTS_MAX, withSubject: true, empty: "Nothing has happened yet." });
  const node = h("aside", { class: "card panel", "aria-label": "Latest events" }, h("div", { class: "card-head" }, h("h2", null, "Latest events"), h("div", { class: "card-tools" }, h("a", { class: "more", href: "/events" }, "All events"))), list);
  node.update = () => list.update(store.events);
  node.tick = () => list.tick();
  return node;
}
