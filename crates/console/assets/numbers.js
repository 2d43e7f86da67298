// The numbers of a verdict: which one matters, against which limit, and how it is written.
//
// Why: a detector tells all its numbers by name; a person wants one of them, and how far it may go.
// Invariant: pure; a verdict without numbers has a `now` of null.

import { bytes, count, duration, span } from "./format.js";

/** Names of the number that matters, the first that is there. */
const NOW = ["used_bytes", "used", "served", "age_seconds"];
/** Names of what it is measured against. */
const BOUND = ["bound_bytes", "bound", "allowed", "allowed_seconds"];
/** Names of its growth. */
const GROWTH = ["growth_per_minute_bytes", "growth_per_minute"];

const PLAIN = { write: (value) => value.toLocaleString("en", { maximumFractionDigits: 1 }) };
/** How the numbers of a kind are written. */
const KINDS = {
  memory: { write: bytes },
  swap: { write: bytes },
  disk: { write: bytes },
  descriptors: { write: (value) => count(Math.round(value), "descriptor") },
  threads: { write: (value) => count(Math.round(value), "thread") },
  close_wait: { write: (value) => count(Math.round(value), "socket") },
  requests: { write: (value) => count(Math.round(value), "request") },
  age: { write: (value) => duration(value * 1000) },
};

/** `{now, limit, slope, write}` of a verdict; what is not told is null. */
export function numbersOf(verdict) {
  const measured = verdict.measured ?? {};
  const first = (names) => {
    const name = names.find((each) => Number.isFinite(measured[each]));
    return name === undefined ? null : measured[name];
  };
  const kind = KINDS[verdict.kind];
  if (!kind) return { now: null, limit: null, slope: null, write: PLAIN.write };
  return { now: first(NOW), limit: first(BOUND), slope: first(GROWTH), write: kind.write };
}

/** `+1.2 MiB/min`, or nothing while it does not grow. */
export function growth({ slope, write }) {
  if (slope === null || slope <= 0) return "";
  const text = write(slope);
  return `+${text.replace(/ (descriptor|thread|socket|request)s?$/, "")}/min`;
}

/** `limit in 43 min`. */
export function forecast(verdict, passedMs) {
  const left = verdict.exhausted_in_ms;
  if (left === null || left === undefined) return "";
  return `limit in ${span(Math.max(0, left - passedMs))}`;
}
