// Shows events as a short list: beside the services, and on a service's page.
//
// Why: two pages show the same thing and must show it alike.
// Invariants: newest first; at most `limit` entries; entries are made once and then only moved.

import { h, arrange, setText } from "./dom.js";
import { icon } from "./icons.js";
import { ago, absolute, clock } from "./format.js";

/** The page of a subject, or null where it has none (`holdfast`, `duty/console`). */
export function pageOf(subject) {
  return /^(holdfast$|duty\/)/.test(subject) ? null : `/service/${encodeURIComponent(subject)}`;
}

/** A link to a subject's page, or its name. */
export function subjectLink(subject) {
  const page = pageOf(subject);
  return page ? h("a", { class: "subject", href: page }, subject) : h("span", { class: "subject" }, subject);
}

/** A list; `node.update(events)`, `node.tick()`. */
export function eventList({ limit, withSubject, empty }) {
  const items = new Map();
  const list = h("ol", { class: "event-list" });
  const nothing = h("p", { class: "empty small" }, empty);
  const node = h("div", { class: "event-box", tabindex: withSubject ? null : "0", role: "group", "aria-label": "Events, newest first" }, list, nothing);
  let first = true;

  node.update = (events) => {
    const shown = events.slice(0, limit);
    const wanted = shown.map((event) => {
      let item = items.get(event.seq);
      if (!item) items.set(event.seq, (item = entry(event, withSubject, !first)));
      return item;
    });
    arrange(list, wanted);
    const keep = new Set(shown.map((event) => event.seq));
    for (const seq of items.keys()) if (!keep.has(seq)) items.delete(seq);
    nothing.hidden = 0 < shown.length;
    if (shown.length) first = false;
  };
  node.tick = () => {
    for (const item of items.values()) setText(item.time, ago(item.wallUs));
  };
  return node;
}

function entry(event, withSubject, isNew) {
  const time = h("time", { class: "event-time", title: `${absolute(event.wall_us)}`, datetime: new Date(event.wall_us / 1000).toISOString() }, ago(event.wall_us));
  const item = h(
    "li",
    { class: `event sev-${event.severity}${isNew ? " is-new" : ""}` },
    h("span", { class: "event-sign", title: event.severity }, icon(event.severity), h("span", { class: "visually-hidden" }, event.severity)),
    h("div", { class: "event-body" }, h("p", { class: "event-message" }, event.message), h("p", { class: "event-meta" }, withSubject ? [subjectLink(event.subject), " · "] : null, h("span", { class: "event-clock" }, clock(event.wall_us)), " · ", time)),
  );
  item.time = time;
  item.wallUs = event.wall_us;
  return item;
}
