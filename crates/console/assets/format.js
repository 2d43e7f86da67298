// Writes numbers and times for people.
//
// Why: the same duration must read the same on every page. Units follow the SI and IEC names with a space.
// Invariant: pure, but for the clock offset, which is set from the daemon's own clock, so that a browser whose
// clock is wrong still shows right durations.

let offsetMs = 0;

/** Tells the daemon's clock, in microseconds since the epoch. */
export function setServerTime(takenUs) {
  if (takenUs > 0) offsetMs = takenUs / 1000 - Date.now();
}

/** Now, by the daemon's clock, in microseconds since the epoch. */
export function nowUs() {
  return (Date.now() + offsetMs) * 1000;
}

/** `45 s`, `12 min 5 s`, `3 h 12 min`, `4 d 3 h`. */
export function duration(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  const seconds = Math.max(0, Math.floor(ms / 1000));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${seconds % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  const days = Math.floor(hours / 24);
  return `${days} d ${hours % 24} h`;
}

/** One unit: `45 s`, `12 min`, `3 h`, `6 days`. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} days`;
}

/** `now`, `12 s ago`, `3 min ago`, `2 h ago`, `3 d ago`. */
export function ago(us) {
  const seconds = Math.floor((nowUs() - us) / 1e6);
  if (seconds < 2) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

/** `34.2 MiB`. */
export function bytes(count) {
  if (count === null || count === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (1023.5 <= value && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || 99.95 <= value ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** `0.3 %`, `12 %`. */
export function percent(value) {
  if (value === null || value === undefined) return "–";
  return `${value.toFixed(value < 9.95 ? 1 : 0)} %`;
}

/** `1 service`, `3 services`. */
export function count(n, one, many = `${one}s`) {
  return `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
}

/** `a`, `a and b`, `a, b and 3 more`. */
export function list(names, max = 3) {
  if (names.length <= 1) return names.join("");
  if (max < names.length) return `${names.slice(0, max).join(", ")} and ${names.length - max} more`;
  return `${names.slice(0, -1).join(", ")} and ${names[names.length - 1]}`;
}

const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const DAY = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

/** `14:03:22`. */
export function clock(us) {
  return CLOCK.format(new Date(us / 1000));
}

/** `14:03:22.118`. */
export function clockMs(us) {
  return `${clock(us)}.${String(Math.floor(us / 1000) % 1000).padStart(3, "0")}`;
}

/** `Today`, `Yesterday`, or the date. */
export function day(us) {
  const date = new Date(us / 1000);
  const today = new Date(nowUs() / 1000);
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (date.toDateString() === today.toDateString()) return "Today";
  if (date.toDateString() === yesterday.toDateString()) return "Yesterday";
  return DAY.format(date);
}

/** Date, time and zone, for titles. */
export function absolute(us) {
  return FULL.format(new Date(us / 1000));
}
