// The icons, drawn as strokes in a box of 20 by 20.
//
// Why: a state must be told by shape and word, not by colour alone, and the page loads nothing from elsewhere.
// Invariant: icons are decoration for assistive technology; a word always stands beside them or in a label.

import { svg } from "./dom.js";

const PATHS = {
  running: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M6.9 10.2l2.2 2.2 4.2-4.6"],
  starting: ["M10 3v3", "M10 14v3", "M3 10h3", "M14 10h3", "M5 5l2.1 2.1", "M12.9 12.9L15 15", "M5 15l2.1-2.1", "M12.9 7.1L15 5"],
  waiting: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M10 6v4l2.6 1.7"],
  backoff: ["M16.5 10a6.5 6.5 0 1 1-2-4.7", "M16.5 3v3.2h-3.2"],
  failed: ["M7.1 3h5.8L17 7.1v5.8L12.9 17H7.1L3 12.9V7.1z", "M7.8 7.8l4.4 4.4", "M12.2 7.8l-4.4 4.4"],
  stopping: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M10 6.5v6.5", "M7.2 10.5L10 13.3l2.8-2.8"],
  stopped: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M7.8 7.8h4.4v4.4H7.8z"],
  finished: ["M5 17.5V3", "M5 3.5h9.5l-2 3.5 2 3.5H5"],
  sick: ["M3 10.5h3l1.8-5 3.4 9 2-5.5 1 1.5H17"],
  dependency_down: ["M8.6 11.4a2.6 2.6 0 0 0 3.7 0l2.9-2.9a2.6 2.6 0 0 0-3.7-3.7l-.9.9", "M11.4 8.6a2.6 2.6 0 0 0-3.7 0l-2.9 2.9a2.6 2.6 0 0 0 3.7 3.7l.9-.9", "M3.5 3.5l2 2", "M14.5 14.5l2 2"],
  replacing: ["M4 7.5h10.5", "M11.5 4.5l3 3-3 3", "M16 12.5H5.5", "M8.5 9.5l-3 3 3 3"],
  draining: ["M10 3c2.8 3.4 4.6 5.8 4.6 8.2a4.6 4.6 0 0 1-9.2 0C5.4 8.8 7.2 6.4 10 3z", "M8 11.5a2 2 0 0 0 2 2"],
  shield: ["M10 2.8l5.8 2v4.6c0 3.7-2.4 6.4-5.8 7.8-3.4-1.4-5.8-4.1-5.8-7.8V4.8z", "M7.4 9.8l1.9 1.9 3.4-3.6"],
  unknown: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M7.9 8.1a2.1 2.1 0 1 1 3.1 1.9c-.7.4-1 .8-1 1.5", "M10 13.7v.1"],
  frozen: ["M10 2.8v14.4", "M3.8 6.4l12.4 7.2", "M16.2 6.4L3.8 13.6", "M8 3.8l2 1.7 2-1.7", "M8 16.2l2-1.7 2 1.7"],
  evidence: ["M4 6.5h12V16H4z", "M3 3.5h14v3H3z", "M8 9.5h4"],
  pause: ["M7.3 5v10", "M12.7 5v10"],
  info: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M10 9.3v4", "M10 6.6v.1"],
  warning: ["M10 3.2L17.5 16.5h-15z", "M10 8.3v3.4", "M10 14.1v.1"],
  error: ["M7.1 3h5.8L17 7.1v5.8L12.9 17H7.1L3 12.9V7.1z", "M10 6.5v4.2", "M10 13.5v.1"],
  play: ["M6.5 4.3v11.4l9-5.7z"],
  stop: ["M5.5 5.5h9v9h-9z"],
  restart: ["M16.5 10a6.5 6.5 0 1 1-2-4.7", "M16.5 3v3.2h-3.2"],
  reload: ["M4 7.5A6.5 6.5 0 0 1 16 8", "M16.3 4.6V8h-3.4", "M16 12.5A6.5 6.5 0 0 1 4 12", "M3.7 15.4V12h3.4"],
  signal: ["M11 2.8L4.5 11.5h5l-.8 5.7 6.8-8.7h-5.2z"],
  chevron: ["M7.5 5l5 5-5 5"],
  back: ["M12.5 5l-5 5 5 5"],
  search: ["M13.7 8.8a4.9 4.9 0 1 1-9.8 0 4.9 4.9 0 0 1 9.8 0", "M12.5 12.5l4 4"],
  sun: ["M13.3 10a3.3 3.3 0 1 1-6.6 0 3.3 3.3 0 0 1 6.6 0", "M10 2v1.8", "M10 16.2V18", "M2 10h1.8", "M16.2 10H18", "M4.3 4.3l1.3 1.3", "M14.4 14.4l1.3 1.3", "M4.3 15.7l1.3-1.3", "M14.4 5.6l1.3-1.3"],
  moon: ["M16.5 11.7A6.8 6.8 0 0 1 8.3 3.5a6.8 6.8 0 1 0 8.2 8.2z"],
  help: ["M17 10a7 7 0 1 1-14 0 7 7 0 0 1 14 0", "M7.9 8.1a2.1 2.1 0 1 1 3.1 1.9c-.7.4-1 .8-1 1.5", "M10 13.7v.1"],
  copy: ["M7.5 7.5h9v9h-9z", "M12.5 7.5v-4h-9v9h4"],
  wrap: ["M3.5 5h13", "M3.5 10h10.2a2.5 2.5 0 0 1 0 5H10", "M11.8 13L9.8 15l2 2", "M3.5 15h3"],
  follow: ["M10 3.5v9.5", "M6 9.5l4 4 4-4", "M4.5 16.8h11"],
  close: ["M5.5 5.5l9 9", "M14.5 5.5l-9 9"],
  offline: ["M3 3l14 14", "M2.5 8a11 11 0 0 1 4-2.4", "M9.5 5a11 11 0 0 1 8 3", "M5.5 11.2a6.6 6.6 0 0 1 3-1.6", "M10 15.2v.1"],
  eye: ["M2.5 10S5.2 5 10 5s7.5 5 7.5 5-2.7 5-7.5 5-7.5-5-7.5-5z", "M12 10a2 2 0 1 1-4 0 2 2 0 0 1 4 0"],
};

/** One icon. Unknown names give the information sign, so that a newer daemon's words still show something. */
export function icon(name) {
  const paths = PATHS[name] ?? PATHS.info;
  return svg(
    "svg",
    { class: `icon icon-${name}`, viewBox: "0 0 20 20", "aria-hidden": "true", focusable: "false" },
    paths.map((d) => svg("path", { d })),
  );
}

/** The product's mark. */
export function mark() {
  return svg(
    "svg",
    { class: "mark", viewBox: "0 0 32 32", "aria-hidden": "true", focusable: "false" },
    svg("rect", { width: 32, height: 32, rx: 8, class: "mark-box" }),
    svg("path", { d: "M16 6.5v19M16 14.5c0 5-6.5 4-6.5 11M16 14.5c0 5 6.5 4 6.5 11M11 10.5h10", class: "mark-line" }),
  );
}
