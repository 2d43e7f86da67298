// Draws series: small lines for rows and tiles, and charts with an axis and values under the pointer.
//
// Why: a number says how it is, a line says where it goes; a leak is seen before it hurts.
// Invariants: drawing changes attributes of nodes that exist; a series of any length is safe; charts say in words
// what they show.

import { h, svg, setAttr, setText, replace } from "./dom.js";
import { absolute, clock } from "./format.js";

const SPARK_WIDTH = 100;
const SPARK_HEIGHT = 26;
/** Samples in a small line. */
const SPARK_POINTS = 60;

/** A small line; `node.draw(values, floor)`. */
export function sparkline(kind) {
  const area = svg("path", { class: "spark-area" });
  const line = svg("path", { class: "spark-line" });
  const node = svg("svg", { class: `spark spark-${kind}`, viewBox: `0 0 ${SPARK_WIDTH} ${SPARK_HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" }, area, line);
  node.draw = (values, rangeMin) => {
    const points = values.slice(-SPARK_POINTS);
    if (points.length < 2) {
      setAttr(line, "d", null);
      setAttr(area, "d", null);
      return;
    }
    const path = trace(points, range(points, rangeMin), SPARK_WIDTH, SPARK_HEIGHT, 2);
    setAttr(line, "d", path);
    setAttr(area, "d", `${path}L${SPARK_WIDTH} ${SPARK_HEIGHT}L0 ${SPARK_HEIGHT}Z`);
  };
  return node;
}

/** Lowest and highest, at least `rangeMin` apart, so that noise does not look like news. */
function range(values, rangeMin) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (high - low < rangeMin) {
    const middle = (low + high) / 2;
    low = Math.max(0, middle - rangeMin / 2);
    high = low + rangeMin;
  }
  return { low, high: high === low ? low + 1 : high };
}

function trace(values, { low, high }, width, height, inset) {
  const step = width / (values.length - 1);
  const scale = (height - 2 * inset) / (high - low);
  return values
    .map((value, n) => `${n ? "L" : "M"}${(n * step).toFixed(1)} ${(height - inset - (value - low) * scale).toFixed(1)}`)
    .join("");
}

const CHART_HEIGHT = 168;
const LEFT = 64;
const RIGHT = 12;
const TOP = 10;
const BOTTOM = 24;

/**
 * A chart; `node.draw(samples)` with samples `{atUs, …}`. `read` takes the value of a sample, `write` makes it
 * readable, `rangeMin` is the least height of the axis in the value's unit.
 */
export function chart({ title, kind, read, write, rangeMin, ticks }) {
  const now = h("strong", { class: "chart-now" }, "–");
  const spread = h("span", { class: "chart-spread" });
  const canvas = svg("svg", { class: `chart-canvas chart-${kind}`, role: "img", height: CHART_HEIGHT });
  const grid = svg("g", { class: "chart-grid" });
  const area = svg("path", { class: "chart-area" });
  const line = svg("path", { class: "chart-line" });
  const cross = svg("line", { class: "chart-cross", y1: TOP, y2: CHART_HEIGHT - BOTTOM, visibility: "hidden" });
  const dot = svg("circle", { class: "chart-dot", r: 4, visibility: "hidden" });
  canvas.append(grid, area, line, cross, dot);
  const tip = h("div", { class: "chart-tip", hidden: true });
  const empty = h("p", { class: "chart-empty" });
  const node = h("figure", { class: "card chart" }, h("figcaption", { class: "chart-head" }, h("span", { class: "chart-title" }, title), now, spread), h("div", { class: "chart-body" }, canvas, tip, empty));

  let samples = [];
  let scale = null;
  let pointerX = null;

  node.draw = (news) => {
    samples = news;
    empty.hidden = 1 < samples.length;
    setText(empty, samples.length ? "One sample so far; the line begins with the next" : "No samples yet");
    const values = samples.map(read);
    setText(now, values.length ? write(values[values.length - 1]) : "–");
    if (values.length < 2) {
      setText(spread, "");
      replace(grid);
      setAttr(line, "d", null);
      setAttr(area, "d", null);
      return;
    }
    const low = Math.min(...values);
    const high = Math.max(...values);
    setText(spread, `${write(low)} to ${write(high)} since ${clock(samples[0].atUs)}`);
    setAttr(canvas, "aria-label", `${title}: now ${write(values[values.length - 1])}, between ${write(low)} and ${write(high)} since ${clock(samples[0].atUs)}`);
    const width = Math.max(240, canvas.clientWidth || 480);
    setAttr(canvas, "viewBox", `0 0 ${width} ${CHART_HEIGHT}`);
    scale = scaleOf(samples, axis(low, high, rangeMin, ticks), width);
    drawGrid(grid, scale, width, write, samples);
    const path = samples.map((one, n) => `${n ? "L" : "M"}${scale.x(one.atUs).toFixed(1)} ${scale.y(read(one)).toFixed(1)}`).join("");
    setAttr(line, "d", path);
    const floor = CHART_HEIGHT - BOTTOM;
    setAttr(area, "d", `${path}L${scale.x(samples[samples.length - 1].atUs).toFixed(1)} ${floor}L${scale.x(samples[0].atUs).toFixed(1)} ${floor}Z`);
    point();
  };

  function point() {
    const shown = pointerX !== null && scale !== null && 1 < samples.length;
    for (const mark of [cross, dot]) setAttr(mark, "visibility", shown ? "visible" : "hidden");
    tip.hidden = !shown;
    if (!shown) return;
    let best = samples[0];
    for (const one of samples) if (Math.abs(scale.x(one.atUs) - pointerX) < Math.abs(scale.x(best.atUs) - pointerX)) best = one;
    const x = scale.x(best.atUs);
    const y = scale.y(read(best));
    setAttr(cross, "x1", x);
    setAttr(cross, "x2", x);
    setAttr(dot, "cx", x);
    setAttr(dot, "cy", y);
    replace(tip, h("strong", null, write(read(best))), h("span", null, clock(best.atUs)));
    tip.title = absolute(best.atUs);
    tip.style.left = `${Math.min(Math.max(x, 52), scale.width - 52)}px`;
    tip.style.top = `${Math.max(y - 14, 46)}px`;
  }

  canvas.addEventListener("pointermove", (event) => {
    pointerX = event.clientX - canvas.getBoundingClientRect().left;
    point();
  });
  canvas.addEventListener("pointerleave", () => {
    pointerX = null;
    point();
  });
  const resized = new ResizeObserver(() => node.draw(samples));
  resized.observe(canvas);
  node.end = () => resized.disconnect();
  return node;
}

/** Lowest and highest of the axis, and its lines, on round numbers of the unit that `ticks` gives. */
function axis(low, high, rangeMin, ticks) {
  const padded = Math.max(high - low, rangeMin) * 0.15;
  let bottom = Math.max(0, low - padded);
  let top = high + padded;
  if (top - bottom < rangeMin) top = bottom + rangeMin;
  // A low value looks honest only above a zero line.
  if (bottom < top * 0.4) bottom = 0;
  const step = ticks((top - bottom) / 3);
  bottom = Math.floor(bottom / step) * step;
  top = Math.ceil(top / step) * step;
  const lines = [];
  for (let at = bottom; at <= top + step / 1000 && lines.length < 12; at += step) lines.push(at);
  return { bottom, top, lines };
}

function scaleOf(samples, { bottom, top, lines }, width) {
  const first = samples[0].atUs;
  const spread = Math.max(1, samples[samples.length - 1].atUs - first);
  return {
    width,
    lines,
    x: (atUs) => LEFT + ((atUs - first) / spread) * (width - LEFT - RIGHT),
    y: (value) => CHART_HEIGHT - BOTTOM - ((value - bottom) / (top - bottom)) * (CHART_HEIGHT - TOP - BOTTOM),
  };
}

function drawGrid(grid, scale, width, write, samples) {
  const marks = [];
  for (const value of scale.lines) {
    const y = scale.y(value).toFixed(1);
    marks.push(svg("line", { x1: LEFT, x2: width - RIGHT, y1: y, y2: y }));
    marks.push(svg("text", { x: LEFT - 8, y, dy: "0.32em", "text-anchor": "end" }, write(value)));
  }
  const last = samples.length - 1;
  const times = 520 < width ? [0, Math.round(last / 2), last] : [0, last];
  times.forEach((n, place) => {
    const anchor = place === 0 ? "start" : place === times.length - 1 ? "end" : "middle";
    const at = samples[n].atUs;
    marks.push(svg("text", { x: scale.x(at).toFixed(1), y: CHART_HEIGHT - 5, "text-anchor": anchor }, clock(at)));
  });
  replace(grid, marks);
}

/** The next round step of 1, 2 or 5 times a power of ten. */
export function decimalStep(rough) {
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-6)));
  return [1, 2, 5, 10].map((factor) => factor * power).find((step) => rough <= step) ?? 10 * power;
}

/** The next power of two: round for sizes in KiB and MiB. */
export function binaryStep(rough) {
  return 2 ** Math.ceil(Math.log2(Math.max(rough, 1024)));
}
