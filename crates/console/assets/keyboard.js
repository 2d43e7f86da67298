// The keys: what they do, where they don't, and the page that tells.
//
// Why: the person at three in the morning should not have to aim with a mouse.
// Invariants: keys with Ctrl, Alt or Meta belong to the browser; while somebody writes, or a dialog is open,
// only Escape is ours; each key has a visible counterpart.

import { h } from "./dom.js";
import { modal, perform } from "./actions.js";

const HELP = [
  ["Everywhere", [
    [["?"], "show these keys"],
    [["/"], "filter or search; Esc leaves"],
    [["g", "s"], "services"],
    [["g", "e"], "events"],
    [["t"], "light, dark, or as the system"],
  ]],
  ["Lists", [
    [["j", "k"], "next and previous row; arrows too"],
    [["Enter"], "open the row"],
    [["r"], "restart the service (asks)"],
    [["s"], "start the service, or stop it (asks)"],
  ]],
  ["A service's page", [
    [["r"], "restart (asks)"],
    [["s"], "start, or stop (asks)"],
    [["f"], "follow its output"],
    [["w"], "wrap long lines"],
    [["u"], "up to all services"],
  ]],
];

/** Listens; `page()` gives the present page, `go(path)` opens another, `theme()` changes the colours. */
export function keyboard({ page, go, theme }) {
  let prefix = 0;
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    if (document.querySelector("dialog[open]")) return;
    if (isWriting(event.target)) {
      if (event.key === "Escape") leave(event);
      else if (event.key === "ArrowDown" && event.target === page()?.search) move(event, page(), 1);
      return;
    }
    if (performance.now() < prefix) {
      prefix = 0;
      const path = { s: "/", o: "/", e: "/events" }[event.key];
      if (path) {
        event.preventDefault();
        go(path);
        return;
      }
    }
    const action = actionOf(event.key, page(), { go, theme, event, begin: () => { prefix = performance.now() + 1500; } });
    if (action) {
      action();
      event.preventDefault();
    }
  });
}

function actionOf(key, page, { theme, event, begin }) {
  switch (key) {
    case "?":
      return showHelp;
    case "/":
      return page?.search ? () => { page.search.focus(); page.search.select(); } : null;
    case "g":
      return begin;
    case "t":
      return theme;
    case "j":
      return () => move(event, page, 1);
    case "k":
      return () => move(event, page, -1);
    case "ArrowDown":
    case "ArrowUp": {
      // Arrows scroll, unless somebody is in the list already.
      const inList = page?.rows().some((row) => row === document.activeElement || row.closest(".row")?.contains(document.activeElement));
      return inList ? () => move(event, page, key === "ArrowDown" ? 1 : -1) : null;
    }
    case "r":
    case "s": {
      const target = page?.target(document.activeElement);
      if (!target) return null;
      return () => perform(key === "r" ? "restart" : target.alive ? "stop" : "start", target.name);
    }
    default:
      return page?.keys?.[key] ?? null;
  }
}

function move(event, page, step) {
  const rows = page?.rows() ?? [];
  if (rows.length === 0) return;
  event.preventDefault();
  const active = document.activeElement;
  const at = rows.findIndex((row) => row === active || row.closest(".row")?.contains(active));
  const next = at === -1 ? (0 < step ? 0 : rows.length - 1) : Math.min(Math.max(at + step, 0), rows.length - 1);
  rows[next].focus({ preventScroll: true });
  rows[next].closest(".row, details")?.scrollIntoView({ block: "nearest" });
}

function isWriting(target) {
  return target instanceof HTMLElement && target.matches("input, textarea, select");
}

function leave(event) {
  const input = event.target;
  if (input.type === "search" && input.value) {
    input.value = "";
    input.dispatchEvent(new Event("input"));
  } else input.blur();
  event.preventDefault();
}

/** Opens the page of keys. */
export function showHelp() {
  const sections = HELP.map(([title, keys]) =>
    h("section", null, h("h3", null, title), h("dl", { class: "keys" }, keys.map(([names, meaning]) => h("div", null, h("dt", null, names.map((name) => h("kbd", null, name))), h("dd", null, meaning))))),
  );
  modal("Keys", [h("div", { class: "key-columns" }, sections)], [h("button", { class: "button", type: "button", value: "no", autofocus: true }, "Close")]);
}
