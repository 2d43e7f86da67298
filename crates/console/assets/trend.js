// Draws where a number goes: what it was, the limit, and a dashed line from now to where they meet.
//
// Why: 'limit in 43 min' is believed when one sees the line.
// Invariants: a series of any length is safe; the drawing is decoration, its words stand beside it.

import { svg, setAttr } from "./dom.js";

const WIDTH = 220;
const HEIGHT = 56;
const INSET = 3;
/** The part of the width that the future gets at most. */
const FUTURE_MAX = 0.5;

/** A drawing; `node.draw(points, {limit, exhaustedMs})` with points `{atUs, value}`. */
export function trend() {
  const area = svg("path", { class: "trend-area" });
  const line = svg("path", { class: "trend-line" });
  const ahead = svg("path", { class: "trend-ahead" });
  const bound = svg("line", { class: "trend-limit", x1: 0, x2: WIDTH });
  const dot = svg("circle", { class: "trend-dot", r: 3 });
  const node = svg("svg", { class: "trend", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true", focusable: "false" }, area, bound, ahead, line, dot);
  node.draw = (points, { limit = null, exhaustedMs = null } = {}) => {
    if (points.length < 2) {
      for (const one of [area, line, ahead]) setAttr(one, "d", null);
      for (const one of [bound, dot]) setAttr(one, "visibility", "hidden");
      return;
    }
    const first = points[0].atUs;
    const last = points[points.length - 1];
    const past = Math.max(1, last.atUs - first);
    // A long way off is shown as a direction, not as a place.
    const left = exhaustedMs === null ? 0 : exhaustedMs * 1000;
    const future = Math.min(left * 1.08, (past * FUTURE_MAX) / (1 - FUTURE_MAX));
    const share = left ? Math.min(1, future / left) : 0;
    const goal = limit !== null && left ? last.value + (limit - last.value) * share : null;
    const values = points.map((one) => one.value);
    const isNear = limit !== null && (share === 1 || limit <= Math.max(...values) * 1.6);
    const top = Math.max(...values, goal ?? 0, isNear ? limit : 0);
    // Less than a twentieth of the value is noise, and does not look like growth.
    const height = Math.max(top - Math.min(...values), top / 20);
    const high = top + height * 0.08;
    const low = Math.max(0, top - height * 1.25);
    const x = (atUs) => ((atUs - first) / (past + future)) * (WIDTH - INSET);
    const y = (value) => HEIGHT - INSET - ((value - low) / Math.max(1e-9, high - low)) * (HEIGHT - 2 * INSET);
    const path = points.map((one, n) => `${n ? "L" : "M"}${x(one.atUs).toFixed(1)} ${y(one.value).toFixed(1)}`).join("");
    const endX = x(last.atUs).toFixed(1);
    setAttr(line, "d", path);
    setAttr(area, "d", `${path}L${endX} ${HEIGHT}L0 ${HEIGHT}Z`);
    setAttr(ahead, "d", goal === null ? null : `M${endX} ${y(last.value).toFixed(1)}L${x(last.atUs + Math.min(left, future)).toFixed(1)} ${y(goal).toFixed(1)}`);
    setAttr(dot, "visibility", "visible");
    setAttr(dot, "cx", endX);
    setAttr(dot, "cy", y(last.value).toFixed(1));
    setAttr(bound, "visibility", isNear ? "visible" : "hidden");
    if (isNear) for (const end of ["y1", "y2"]) setAttr(bound, end, y(limit).toFixed(1));
  };
  return node;
}
