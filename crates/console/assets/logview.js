// Shows the end of a log, live: follow, search, wrap, copy.
//
// Why: the last lines are the first thing one wants to see when something failed.
// Invariants: at most LINES_MAX lines are kept; lines enter the page as text, control sequences removed; many
// lines arriving at once are drawn once per frame; a person who scrolls up is not pulled down.

import * as api from "./api.js";
import { h, setAttr, setText } from "./dom.js";
import { icon } from "./icons.js";
import { Stream, parse } from "./live.js";
import { toast } from "./actions.js";
import { count } from "./format.js";

/** Lines kept in the page. */
const LINES_MAX = 3000;
/** Lines asked for at first. */
const LINES_FIRST = 300;
/** Nearer to the end than this (pixels) is at the end. */
const END_PX = 24;
/** Longer lines are cut in the page; the file has them whole. */
const LINE_CHARS_MAX = 4000;

// Terminal control sequences (ECMA-48): CSI, OSC and single escapes; other control characters but tab.
const CONTROL = /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b[@-_]|[\u0000-\u0008\u000b-\u001f\u007f]/g;

const LOUD = /\b(?:error|fatal|panic(?:ked)?|critical|emerg|alert|exception|traceback)\b/i;
const WARN = /\bwarn(?:ing)?\b/i;

/** The log of one instance; `node.end()`, `node.search`, `node.keys`. */
export function logView(instance, path) {
  const lines = h("ol", { class: "log-lines" });
  const scroll = h("div", { class: "log-scroll", tabindex: "0", role: "log", "aria-label": `Output of ${instance}`, "aria-live": "off" }, lines);
  const empty = h("p", { class: "empty small" }, "Reading …");
  const search = h("input", { class: "input", type: "search", placeholder: "Search the output", "aria-label": "Search the output", autocomplete: "off", spellcheck: "false" });
  const found = h("span", { class: "found", "aria-live": "polite" });
  const follow = toggle("follow", "Follow", "Follow new lines (f)", true);
  const wrap = toggle("wrap", "Wrap", "Wrap long lines (w)", readWrap());
  const copy = h("button", { class: "button tool", type: "button", title: "Copy the lines that are shown" }, icon("copy"), h("span", null, "Copy"));
  const news = h("button", { class: "button log-news", type: "button", hidden: true }, icon("follow"), h("span", null, "New lines"));
  const node = h(
    "section",
    { class: "card log", "aria-label": "Output" },
    h("div", { class: "card-head" }, h("h2", null, "Output"), found, h("div", { class: "card-tools" }, h("label", { class: "search" }, icon("search"), search, h("kbd", { "aria-hidden": "true" }, "/")), follow, wrap, copy)),
    h("div", { class: "log-body" }, scroll, empty, news),
    path ? h("p", { class: "log-path" }, path) : null,
  );

  let waiting = [];
  let frame = 0;
  let lastTop = 0;

  function add(texts) {
    waiting.push(...texts);
    if (LINES_MAX < waiting.length) waiting = waiting.slice(-LINES_MAX);
    if (!frame) frame = requestAnimationFrame(drawNews);
  }

  function drawNews() {
    frame = 0;
    const term = search.value.toLowerCase();
    const batch = document.createDocumentFragment();
    for (const text of waiting) batch.append(lineNode(text, term));
    waiting = [];
    lines.append(batch);
    while (LINES_MAX < lines.childElementCount) lines.firstElementChild.remove();
    empty.hidden = 0 < lines.childElementCount;
    if (term) countFound();
    if (follow.isOn) toEnd();
    else news.hidden = false;
  }

  function toEnd() {
    scroll.scrollTop = scroll.scrollHeight;
    lastTop = scroll.scrollTop;
    news.hidden = true;
  }

  function filter() {
    const term = search.value.toLowerCase();
    for (const line of lines.children) mark(line, term);
    countFound();
    if (follow.isOn) toEnd();
  }

  function countFound() {
    const hits = search.value ? [...lines.children].filter((line) => !line.hidden).length : 0;
    setText(found, search.value ? count(hits, "line") : "");
  }

  /** A stream has begun: it sends the last lines first, which replace what was shown before. */
  function begin() {
    lines.replaceChildren();
    waiting = [];
    setText(empty, "It has not written anything yet.");
    empty.hidden = false;
  }

  /** A stream can't say why it failed; an ordinary question can. */
  async function explain() {
    if (0 < lines.childElementCount) return;
    try {
      const texts = await api.logLines(instance, LINES_FIRST);
      if (0 < texts.length) add(texts);
    } catch (fault) {
      setText(empty, `The output can't be read: ${fault.message}`);
    }
  }

  const stream = new Stream(() => api.url(`/logs/${encodeURIComponent(instance)}/stream`, { lines: LINES_FIRST }), ["lines"], {
    opened: begin,
    message: (_name, data) => add(parse(data)?.lines ?? []),
    lost: explain,
  });

  scroll.addEventListener("scroll", () => {
    const atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < END_PX;
    // Going up is meant, also in the middle of a smooth scroll; growing content is not.
    if (scroll.scrollTop < lastTop - 1 && !atEnd) follow.set(false);
    if (atEnd) {
      follow.set(true);
      news.hidden = true;
    }
    lastTop = scroll.scrollTop;
  }, { passive: true });
  follow.addEventListener("click", () => { follow.set(!follow.isOn); if (follow.isOn) toEnd(); });
  wrap.addEventListener("click", () => setWrap(!wrap.isOn));
  news.addEventListener("click", () => { follow.set(true); toEnd(); });
  search.addEventListener("input", filter);
  copy.addEventListener("click", () => copyLines(lines));

  function setWrap(on) {
    wrap.set(on);
    lines.classList.toggle("is-wrapped", on);
    try { localStorage.setItem("holdfast.wrap", on ? "yes" : "no"); } catch { /* only comfort */ }
    if (follow.isOn) toEnd();
  }
  lines.classList.toggle("is-wrapped", wrap.isOn);

  stream.start();
  const onSleep = () => (document.hidden ? stream.stop() : stream.start());
  document.addEventListener("visibilitychange", onSleep);

  node.search = search;
  node.keys = { f: () => follow.click(), w: () => wrap.click() };
  node.end = () => {
    stream.stop();
    cancelAnimationFrame(frame);
    document.removeEventListener("visibilitychange", onSleep);
  };
  return node;
}

function lineNode(text, term) {
  const clean = text.replace(CONTROL, "");
  const cut = LINE_CHARS_MAX < clean.length ? `${clean.slice(0, LINE_CHARS_MAX)} …` : clean;
  const tone = clean.startsWith("[holdfast") ? "is-ours" : LOUD.test(cut) ? "is-loud" : WARN.test(cut) ? "is-warn" : "";
  const line = h("li", { class: tone || null }, cut || "\u00a0");
  line.plain = cut;
  if (term) mark(line, term);
  return line;
}

/** Shows the line only if it has the term, with the term marked. */
function mark(line, term) {
  const text = line.plain;
  const lower = text.toLowerCase();
  line.hidden = term !== "" && !lower.includes(term);
  if (line.isMarked || (term && !line.hidden)) line.replaceChildren(...(term && !line.hidden ? pieces(text, lower, term) : [text || "\u00a0"]));
  line.isMarked = term !== "" && !line.hidden;
}

function pieces(text, lower, term) {
  const found = [];
  let from = 0;
  for (let at = lower.indexOf(term); at !== -1; at = lower.indexOf(term, from)) {
    found.push(text.slice(from, at), h("mark", null, text.slice(at, at + term.length)));
    from = at + term.length;
  }
  found.push(text.slice(from));
  return found.filter((piece) => piece !== "");
}

async function copyLines(lines) {
  const texts = [...lines.children].filter((line) => !line.hidden).map((line) => line.plain);
  try {
    await navigator.clipboard.writeText(`${texts.join("\n")}\n`);
    toast("ok", `${count(texts.length, "line")} copied`);
  } catch {
    toast("bad", "The browser does not allow to copy", "Select the lines and copy them by hand.");
  }
}

function toggle(sign, label, title, on) {
  const node = h("button", { class: "button tool toggle", type: "button", title }, icon(sign), h("span", null, label));
  node.set = (wanted) => {
    node.isOn = wanted;
    setAttr(node, "aria-pressed", String(wanted));
  };
  node.set(on);
  return node;
}

function readWrap() {
  try {
    return localStorage.getItem("holdfast.wrap") !== "no";
  } catch {
    return true;
  }
}
