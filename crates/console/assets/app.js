// Puts the page together: the header, the banners, the routes, what is read aloud.
//
// Why: one document serves all addresses, so that going to a service keeps the connection and the history.
// Invariants: exactly one page is mounted; links within the console never load the document anew; what changed
// is announced in words, at most once per ANNOUNCE_MS.

import { h, replace, setText, setAttr, show, prose } from "./dom.js";
import { icon, mark } from "./icons.js";
import { store, on, start, retryNow, mayAct } from "./store.js";
import { summary, verdict, shownState, stateOf } from "./states.js";
import { clock, count, list } from "./format.js";
import { overview } from "./overview.js";
import { servicePage } from "./service.js";
import { eventsPage } from "./events.js";
import { keyboard, showHelp } from "./keyboard.js";

/** Announcements are gathered this long. */
const ANNOUNCE_MS = 2000;
/** More changes than this are told as a number. */
const ANNOUNCED_MAX = 3;

const main = document.getElementById("main");
let page = null;

/** Shows the page that belongs to the address. */
function route(isFirst) {
  page?.end();
  page = null;
  const path = location.pathname;
  const service = /^\/service\/([^/]+)\/?$/.exec(path);
  if (service) page = servicePage(main, decodeName(service[1]));
  else if (path === "/events") page = eventsPage(main);
  else if (path === "/") page = overview(main);
  else notFound();
  header.update();
  if (isFirst) return;
  window.scrollTo(0, 0);
  main.focus({ preventScroll: true });
}

function decodeName(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function notFound() {
  document.title = "Not found · Holdfast";
  replace(main, h("div", { class: "card empty" }, h("h1", null, "There is no such page"), h("a", { class: "button", href: "/" }, "All services")));
}

function go(path) {
  if (path === location.pathname + location.search) return;
  history.pushState(null, "", path);
  route(false);
}

document.addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = event.target.closest?.("a[href]");
  if (!link || link.origin !== location.origin || link.hash || link.target || link.pathname.startsWith("/api/")) return;
  event.preventDefault();
  go(link.pathname + link.search);
});
window.addEventListener("popstate", () => route(false));

const header = buildHeader();
document.getElementById("top").append(...header.parts);

function buildHeader() {
  const node = h("span", { class: "node-name" });
  const links = [["/", "Services"], ["/events", "Events"]].map(([path, words]) => h("a", { class: "nav-link", href: path }, words));
  const attention = h("span", { class: "nav-count", hidden: true });
  links[0].append(attention);
  const word = h("span", { class: "connection-word" });
  const connection = h("span", { class: "connection", role: "status" }, h("span", { class: "live-dot", "aria-hidden": "true" }), word);
  const readOnly = h("span", { class: "chip", hidden: true, title: "Operators may act: see [api] operators in the configuration" }, icon("eye"), "read only");
  const theme = h("button", { class: "icon-button", type: "button", onclick: nextTheme });
  const help = h("button", { class: "icon-button", type: "button", "aria-label": "Keys", title: "Keys (?)", onclick: showHelp }, icon("help"));
  const parts = [h("a", { class: "brand", href: "/", "aria-label": "Holdfast, all services" }, mark(), h("span", { class: "brand-name" }, "Holdfast")), node, h("nav", { class: "nav", "aria-label": "Pages" }, links), h("div", { class: "spacer" }), readOnly, connection, theme, help];
  const update = () => {
    setText(node, store.snapshot?.node ?? "");
    links.forEach((link) => {
      const path = link.getAttribute("href");
      const isHere = path === "/" ? location.pathname === "/" || location.pathname.startsWith("/service/") : location.pathname === path;
      setAttr(link, "aria-current", isHere ? "page" : null);
    });
    const failing = summary(store.snapshot).attention;
    show(attention, 0 < failing);
    setText(attention, String(failing));
    setAttr(attention, "aria-label", `${failing} need attention`);
    const { state } = store.connection;
    setText(word, { connecting: "Connecting", live: "Live", polling: "Polling", down: "Disconnected", refused: "Refused" }[state]);
    setAttr(connection, "data-state", state);
    setAttr(connection, "title", store.me.name ? `You are ${store.me.name}` : null);
    show(readOnly, state !== "connecting" && Boolean(store.me.name) && !mayAct());
    title(failing);
  };
  const drawTheme = () => {
    const now = document.documentElement.dataset.theme ?? "system";
    const words = { light: "light", dark: "dark", system: "as the system" }[now];
    setAttr(theme, "aria-label", `Colours: ${words}`);
    setAttr(theme, "title", `Colours: ${words} (t)`);
    const isDark = now === "dark" || (now === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
    replace(theme, icon(isDark ? "moon" : "sun"), now === "system" ? h("span", { class: "auto", "aria-hidden": "true" }, "A") : null);
  };
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawTheme);
  drawTheme();
  return { parts, update, drawTheme };
}

/** The state stands in the tab's title, because the tab is seldom in front. */
function title(failing) {
  const bare = document.title.replace(/^\(\d+\) /, "");
  const wanted = 0 < failing ? `(${failing}) ${bare}` : bare;
  if (document.title !== wanted) document.title = wanted;
}

function nextTheme() {
  const root = document.documentElement;
  const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
  const order = isDark ? ["", "light", "dark"] : ["", "dark", "light"];
  const next = order[(order.indexOf(root.dataset.theme ?? "") + 1) % order.length];
  if (next) root.dataset.theme = next;
  else delete root.dataset.theme;
  try {
    if (next) localStorage.setItem("holdfast.theme", next);
    else localStorage.removeItem("holdfast.theme");
  } catch {
    // It lasts as long as the page then.
  }
  header.drawTheme();
}

const banners = buildBanners();
document.getElementById("banners").append(...banners.parts);

function buildBanners() {
  const text = h("span", { class: "banner-text" });
  const retry = h("button", { class: "button", type: "button", onclick: retryNow }, "Try now");
  const connection = h("div", { class: "banner tone-bad", role: "alert", hidden: true }, icon("offline"), text, retry);
  const lost = h("div", { class: "banner tone-warn", hidden: true });
  const notices = h("div", { class: "notices" });
  let noticesShown = "";
  const dismissed = new Set();

  const tick = () => {
    const { state, retryAtMs, fault } = store.connection;
    const isDown = state === "down" || state === "refused";
    show(connection, isDown);
    document.body.classList.toggle("is-stale", isDown);
    if (!isDown) return;
    const wait = Math.max(0, Math.ceil((retryAtMs - Date.now()) / 1000));
    const next = wait ? `Next try in ${wait} s.` : "Trying …";
    const known = store.snapshot ? ` You see what was known at ${clock(store.snapshot.taken_us)}.` : "";
    if (state === "refused") replace(text, "Access refused: ", prose(fault?.message ?? ""), ". ", prose(sentence(fault?.help ?? "")));
    else setText(text, `${sentence(fault?.message ?? "The connection is lost")}.${known} ${next}`);
  };
  const update = () => {
    const snapshot = store.snapshot;
    tick();
    if (!snapshot) return;
    show(lost, 0 < snapshot.events_lost);
    if (!lost.hidden) replace(lost, icon("warning"), h("span", { class: "banner-text" }, `${count(snapshot.events_lost, "event")} could not be written since the daemon started; the disk may have been full.`));
    const duties = snapshot.duties.filter((duty) => duty.state === "backoff").map((duty) => ({ code: `duty-${duty.name}`, message: `Holdfast's own process ${duty.name} is not running: ${duty.reason || "it ended"}`, help: "It is started again by itself." }));
    const standing = [...snapshot.notices, ...duties].filter((notice) => !dismissed.has(notice.code));
    const key = JSON.stringify(standing);
    if (key === noticesShown) return;
    noticesShown = key;
    replace(notices, standing.map((notice) => noticeNode(notice, () => { dismissed.add(notice.code); update(); })));
  };
  return { parts: [connection, lost, notices], update, tick };
}

function noticeNode(notice, dismiss) {
  const close = h("button", { class: "icon-button", type: "button", "aria-label": "Hide this notice", title: "Hide until the page is loaded again", onclick: dismiss }, icon("close"));
  return h("div", { class: "banner tone-info" }, icon("info"), h("span", { class: "banner-text" }, h("strong", null, prose(sentence(notice.message)), /[.!?]$/.test(notice.message) ? null : "."), notice.help ? [" ", prose(sentence(notice.help))] : null), close);
}

const sentence = (text) => (text ? text[0].toUpperCase() + text.slice(1) : "");

/** Tells changes of state to those who listen instead of look. */
function announcer() {
  const box = document.getElementById("live");
  let before = null;
  let changes = new Map();
  let timer = 0;
  return () => {
    const now = new Map();
    for (const service of store.snapshot?.services ?? []) for (const one of service.instances) now.set(one.name, shownState(one));
    if (before) {
      for (const [name, state] of now) if (before.has(name) && before.get(name) !== state) changes.set(name, state);
    }
    before = now;
    if (changes.size === 0 || timer) return;
    timer = setTimeout(() => {
      timer = 0;
      const words = [...changes].map(([name, state]) => `${name}: ${stateOf(state).word.toLowerCase()}`);
      changes = new Map();
      const text = ANNOUNCED_MAX < words.length ? `${count(words.length, "instance")} changed. ${verdict(store.snapshot).title}.` : `${list(words)}. ${verdict(store.snapshot).title}.`;
      setText(box, text);
    }, ANNOUNCE_MS);
  };
}

const announce = announcer();
on("status", () => {
  header.update();
  banners.update();
  announce();
});
on("connection", () => {
  header.update();
  banners.update();
});
on("me", header.update);
setInterval(banners.tick, 1000);
keyboard({ page: () => page, go, theme: nextTheme });
route(true);
start();
