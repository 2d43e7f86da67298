// The evidence that is kept of sick runs: which bundles there are, and what is in each.
//
// Why: what is needed to find the fault must be one click away from the sentence that says there was one.
// Invariants: a bundle is asked for when it is opened, and once; only those who may act see any; files are opened
// as they are, in another tab.

import * as api from "./api.js";
import { h, arrange, replace, prose, setText, show } from "./dom.js";
import { icon } from "./icons.js";
import { mayAct } from "./store.js";
import { absolute, ago, bytes, count, duration } from "./format.js";

/** Bundles that are listed; `holdfast evidence list` shows all. */
const SHOWN_MAX = 8;

/** The card; `node.ask(instance)` looks for news, `node.open(name)` shows one bundle, `node.tick()` moves times on. */
export function evidencePanel(subject) {
  const items = new Map();
  const list = h("ul", { class: "bundles" });
  const more = h("p", { class: "bundles-more", hidden: true });
  const found = h("span", { class: "found" });
  const node = h("section", { class: "card evidence", "aria-label": "Evidence", hidden: true }, h("div", { class: "card-head" }, h("h2", null, "Evidence"), found), list, more);
  let latest = 0;
  let wanted = "";

  node.ask = async (instance) => {
    const isWatched = instance.health && (0 < instance.health.detectors || instance.health.workaround);
    if (!mayAct() || !isWatched) return;
    const mine = (latest += 1);
    let all = [];
    try {
      all = await api.evidence(subject);
    } catch {
      // Without the journal's disk there is no evidence to show; the banner of the connection tells the rest.
    }
    if (mine === latest) draw(all);
  };
  node.open = (name) => {
    wanted = name;
    for (const [key, item] of items) if (key === name) reveal(item);
  };
  node.tick = () => {
    for (const item of items.values()) item.tick();
  };

  function draw(all) {
    show(node, 0 < all.length);
    setText(found, count(all.length, "bundle"));
    show(more, SHOWN_MAX < all.length);
    replace(more, "Older ones: ", h("code", null, `holdfast evidence list ${subject}`));
    const shown = all.slice(0, SHOWN_MAX);
    arrange(list, shown.map((entry) => {
      const key = `${entry.instance}/${entry.id}`;
      if (!items.has(key)) items.set(key, bundleItem(entry, entry.instance !== subject));
      return items.get(key);
    }));
    const keep = new Set(shown.map((entry) => `${entry.instance}/${entry.id}`));
    for (const key of items.keys()) if (!keep.has(key)) items.delete(key);
    if (wanted && items.has(wanted)) reveal(items.get(wanted));
  }

  function reveal(item) {
    wanted = "";
    item.details.open = true;
    item.scrollIntoView({ block: "nearest" });
    item.details.querySelector("summary").focus({ preventScroll: true });
  }
  return node;
}

function bundleItem(entry, withInstance) {
  const when = h("time", { class: "bundle-when", title: absolute(entry.begun_us), datetime: new Date(entry.begun_us / 1000).toISOString() });
  const facts = [withInstance ? entry.instance : "", `run ${entry.run}`, count(entry.files, "file"), bytes(entry.bytes)].filter(Boolean).join(" · ");
  const summary = h("summary", null, icon("chevron"), h("div", { class: "bundle-words" }, h("p", { class: "bundle-cause" }, entry.cause), h("p", { class: "bundle-meta" }, when, ` · ${facts}`, entry.complete ? null : h("span", { class: "badge tone-warn" }, "incomplete"))));
  const body = h("div", { class: "bundle-body" });
  const details = h("details", { class: "bundle" }, summary, body);
  const item = h("li", null, details);
  let asked = false;
  details.addEventListener("toggle", async () => {
    if (!details.open || asked) return;
    asked = true;
    setText(body, "Reading …");
    try {
      replace(body, contents(await api.bundle(entry.instance, entry.id)));
    } catch (fault) {
      asked = false;
      replace(body, h("p", null, prose(fault.message)));
    }
  });
  item.details = details;
  item.tick = () => setText(when, ago(entry.begun_us));
  item.tick();
  return item;
}

function contents(index) {
  const file = (one) => h("li", null, h("a", { class: "bundle-file", href: api.bundleFile(index.instance, index.id, one.name), target: "_blank", rel: "noopener" }, one.name), h("span", { class: "bundle-size" }, bytes(one.bytes)), h("span", { class: "bundle-about" }, one.about));
  const missing = (one) => h("li", null, h("strong", null, one.name), `: ${one.why}`, one.help ? [". ", prose(one.help)] : null);
  return [
    h("p", { class: "bundle-meta" }, `Gathered within ${index.took_ms} ms of ${duration(index.budget_ms)}, after ${duration(index.uptime_ms)} of uptime`, index.pid ? `, pid ${index.pid}` : ""),
    h("ul", { class: "bundle-files" }, index.files.map(file)),
    index.missing.length ? [h("h3", null, "Not there"), h("ul", { class: "bundle-missing" }, index.missing.map(missing))] : null,
  ];
}
