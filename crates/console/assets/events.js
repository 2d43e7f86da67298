// The page of all events: filters, search, older pages, live.
//
// Why: "what happened last night" is answered here, without a shell.
// Invariants: filters stand in the address, so that a view can be sent to somebody; at most SHOWN_MAX events
// are in the page; paging goes by time and drops what is known already, so nothing shows twice.

import * as api from "./api.js";
import { h, replace, setText, show, setAttr } from "./dom.js";
import { icon } from "./icons.js";
import { store, on, wantEvents } from "./store.js";
import { absolute, ago, clockMs, count, day } from "./format.js";
import { subjectLink } from "./eventlist.js";

/** Events asked for at a time. */
const PAGE_EVENTS = 100;
/** More than this makes a page slow; a narrower filter helps. */
const SHOWN_MAX = 3000;
/** Typing settles before we ask. */
const TYPING_MS = 250;
const RANK = { info: 0, warning: 1, error: 2 };
const RANGES = ["1h", "24h", "7d"];

/** Builds the page into `main`. */
export function eventsPage(main) {
  document.title = "Events · Holdfast";
  wantEvents(true);
  const filter = readFilter();
  const text = h("input", { class: "input", type: "search", placeholder: "Search messages", "aria-label": "Search messages", autocomplete: "off", spellcheck: "false" });
  text.value = filter.text;
  const subject = h("input", { class: "input", list: "subjects", placeholder: "Any subject", "aria-label": "Subject", autocomplete: "off", spellcheck: "false" });
  subject.value = filter.subject;
  const subjects = h("datalist", { id: "subjects" });
  const kind = h("input", { class: "input", list: "kinds", placeholder: "Any kind", "aria-label": "Kind, or its beginning", autocomplete: "off", spellcheck: "false" });
  kind.value = filter.kind;
  const kinds = h("datalist", { id: "kinds" });
  const severity = select("Severity", [["", "All severities"], ["warning", "Warnings and errors"], ["error", "Errors only"]], filter.severity);
  const range = select("Time", [["", "All times"], ["1h", "Last hour"], ["24h", "Last 24 hours"], ["7d", "Last 7 days"]], filter.range);
  const live = h("button", { class: "button tool toggle", type: "button", title: "Show new events at once (f)" }, h("span", { class: "live-dot", "aria-hidden": "true" }), h("span", null, "Live"));
  const found = h("span", { class: "found", "aria-live": "polite" });
  const waitingButton = h("button", { class: "button news-button", type: "button", hidden: true });
  const list = h("div", { class: "event-table" });
  const empty = h("div", { class: "empty", hidden: true });
  const older = h("button", { class: "button", type: "button", hidden: true }, "Older events");
  const end = h("p", { class: "end", hidden: true });
  replace(
    main,
    h("section", { class: "page-head" }, h("div", { class: "page-line" }, h("h1", null, "Events"), found)),
    h(
      "section",
      { class: "card", "aria-label": "Events" },
      h("div", { class: "filters" }, h("label", { class: "search" }, icon("search"), text, h("kbd", { "aria-hidden": "true" }, "/")), subject, subjects, kind, kinds, severity, range, live),
      waitingButton,
      list,
      empty,
      h("div", { class: "older" }, older, end),
    ),
  );

  let events = [];
  let known = new Set();
  let waiting = [];
  let isLive = true;
  let asking = 0;

  const matches = (event) => {
    const needle = filter.text.toLowerCase();
    return (
      (!needle || `${event.message} ${event.subject} ${event.kind}`.toLowerCase().includes(needle)) &&
      (!filter.subject || event.subject === filter.subject || event.subject.startsWith(`${filter.subject}:`)) &&
      (!filter.kind || event.kind.startsWith(filter.kind)) &&
      (!filter.severity || RANK[filter.severity] <= RANK[event.severity])
    );
  };

  const query = () => ({ subject: filter.subject, kind: filter.kind, severity: filter.severity, since: filter.range });

  async function load(isOlder) {
    const mine = (asking += 1);
    older.disabled = true;
    try {
      // One microsecond more, since others may have happened in the same one.
      const until = isOlder ? events[events.length - 1].wall_us + 1 : "";
      const page = await api.events({ ...query(), limit: PAGE_EVENTS, until });
      if (mine !== asking) return;
      if (!isOlder) {
        events = [];
        known = new Set();
        waiting = [];
      }
      const fresh = page.filter((event) => !known.has(event.seq));
      take(fresh);
      events.push(...fresh);
      draw();
      const isEnd = page.length < PAGE_EVENTS || (isOlder && fresh.length === 0);
      const isFull = SHOWN_MAX <= events.length;
      show(older, !isEnd && !isFull);
      show(end, isFull || (isEnd && 0 < events.length));
      setText(end, isFull ? "Narrow the filter to see older events." : "These are all events that are kept.");
    } catch (fault) {
      replace(empty, h("h3", null, "The events can't be read"), h("p", null, fault.message), fault.help ? h("p", null, fault.help) : null, h("button", { class: "button", type: "button", onclick: () => load(false) }, "Try again"));
      show(empty, events.length === 0);
    } finally {
      older.disabled = false;
    }
  }

  function take(fresh) {
    for (const event of fresh) known.add(event.seq);
  }

  function draw() {
    const shown = events.filter(matches);
    const nodes = [];
    let lastDay = "";
    let section = null;
    for (const event of shown) {
      const today = day(event.wall_us);
      if (today !== lastDay) {
        lastDay = today;
        section = h("div", { class: "day" }, h("h2", { class: "day-head" }, today));
        nodes.push(section);
      }
      section.append((event.node_ ??= row(event)));
    }
    list.replaceChildren(...nodes);
    setText(found, shown.length === events.length ? count(shown.length, "event") : `${shown.length} of ${count(events.length, "event")} loaded`);
    show(empty, shown.length === 0);
    if (shown.length === 0) replace(empty, h("h3", null, "No such events"), h("p", null, events.length ? "None of the loaded events matches. Older ones may." : "Nothing like this has happened, or it is no longer kept."), isFiltered() ? h("button", { class: "button", type: "button", onclick: clear }, "Clear the filter") : null);
  }

  const isFiltered = () => filter.text || filter.subject || filter.kind || filter.severity || filter.range;

  function clear() {
    for (const input of [text, subject, kind, severity, range]) input.value = "";
    changed();
  }

  function arrived(fresh) {
    const news = fresh.filter((event) => !known.has(event.seq) && matches(event));
    if (news.length === 0) return;
    take(news);
    if (!isLive) {
      waiting = [...news, ...waiting];
      show(waitingButton, true);
      setText(waitingButton, `Show ${count(waiting.length, "new event")}`);
      return;
    }
    prepend(news);
  }

  function prepend(news) {
    for (const event of news) event.isNew = true;
    events = [...news, ...events].sort((a, b) => b.seq - a.seq).slice(0, SHOWN_MAX);
    draw();
  }

  function setLive(wanted) {
    isLive = wanted;
    setAttr(live, "aria-pressed", String(wanted));
    if (wanted) showWaiting();
  }

  function showWaiting() {
    show(waitingButton, false);
    prepend(waiting.splice(0));
  }

  let typing = 0;
  function changed() {
    Object.assign(filter, { text: text.value.trim(), subject: subject.value.trim(), kind: kind.value.trim(), severity: severity.value, range: range.value });
    history.replaceState(null, "", addressOf(filter));
    load(false);
  }
  const typed = () => {
    clearTimeout(typing);
    typing = setTimeout(changed, TYPING_MS);
  };
  text.addEventListener("input", () => {
    filter.text = text.value.trim();
    history.replaceState(null, "", addressOf(filter));
    draw();
  });
  subject.addEventListener("input", typed);
  kind.addEventListener("input", typed);
  severity.addEventListener("change", changed);
  range.addEventListener("change", changed);
  older.addEventListener("click", () => load(true));
  live.addEventListener("click", () => setLive(!isLive));
  waitingButton.addEventListener("click", showWaiting);

  const fillLists = () => {
    const names = (store.snapshot?.services ?? []).map((service) => service.name);
    fillList(subjects, ["holdfast", ...names]);
    fillList(kinds, [...new Set([...store.events, ...events].map((event) => event.kind))].sort());
  };
  subject.addEventListener("focus", fillLists);
  kind.addEventListener("focus", fillLists);

  const stops = [on("events", arrived)];
  const timer = setInterval(() => {
    for (const time of list.querySelectorAll("time[data-us]")) setText(time, ago(Number(time.dataset.us)));
  }, 5000);
  setLive(true);
  load(false);
  return {
    search: text,
    rows: () => [...list.querySelectorAll("summary")],
    target: () => null,
    keys: { f: () => live.click() },
    end() {
      stops.forEach((stop) => stop());
      clearInterval(timer);
      clearTimeout(typing);
      for (const event of events) delete event.node_;
    },
  };
}

function row(event) {
  const details = h("dl", { class: "event-data" });
  const node = h(
    "details",
    { class: `event-row sev-${event.severity}${event.isNew ? " is-new" : ""}` },
    h(
      "summary",
      null,
      h("span", { class: "event-when", title: absolute(event.wall_us) }, clockMs(event.wall_us)),
      h("span", { class: "event-sign", title: event.severity }, icon(event.severity), h("span", { class: "visually-hidden" }, event.severity)),
      h("span", { class: "subject" }, event.subject),
      h("span", { class: "event-message" }, event.message),
      h("code", { class: "event-kind" }, event.kind),
      h("time", { class: "event-ago", dataset: { us: String(event.wall_us) } }, ago(event.wall_us)),
    ),
    details,
  );
  node.addEventListener("toggle", () => {
    if (node.open && !details.childElementCount) replace(details, detailRows(event));
  });
  return node;
}

function detailRows(event) {
  const rows = [
    ["Subject", subjectLink(event.subject)],
    ["Time", absolute(event.wall_us)],
    ["Kind", event.kind],
    ["Severity", event.severity],
    ["Number", `${event.seq} (${event.source} ${event.source_seq})`],
    ["Node", event.node],
    ...Object.entries(event.data ?? {}).map(([name, value]) => [name, typeof value === "string" ? value : JSON.stringify(value)]),
  ];
  return rows.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value)));
}

function select(label, options, value) {
  const node = h("select", { class: "input select", "aria-label": label }, options.map(([key, words]) => h("option", { value: key }, words)));
  node.value = value;
  return node;
}

function fillList(list, names) {
  replace(list, names.map((name) => h("option", { value: name })));
}

function readFilter() {
  const search = new URLSearchParams(location.search);
  const known = (name, values) => (values.includes(search.get(name)) ? search.get(name) : "");
  return { text: search.get("q") ?? "", subject: search.get("subject") ?? "", kind: search.get("kind") ?? "", severity: known("severity", ["warning", "error"]), range: known("range", RANGES) };
}

function addressOf(filter) {
  const search = new URLSearchParams();
  for (const [name, key] of [["q", "text"], ["subject", "subject"], ["kind", "kind"], ["severity", "severity"], ["range", "range"]]) if (filter[key]) search.set(name, filter[key]);
  const words = search.toString();
  return words ? `/events?${words}` : "/events";
}
