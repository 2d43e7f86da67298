// Asks the daemon: requests with a deadline, and the shapes of its answers.
//
// Why: the pages must not care whether an answer came by a stream or by asking, nor wait for ever.
// Invariants: each request ends within REQUEST_MS_MAX; each failure is an ApiError with a message for people.
// Source: GET /api/v1/openapi.json of the daemon.

const BASE = "/api/v1";

/** Longest wait for an answer; stops of services are accepted at once and go on by themselves. */
const REQUEST_MS_MAX = 15000;

/** An answer that is no success. `status` 0: no answer at all. */
export class ApiError extends Error {
  constructor(status, code, message, help) {
    super(message);
    this.status = status;
    this.code = code;
    this.help = help ?? "";
  }
}

/** The address of a path of the API, with a query; empty values are left out. */
export function url(path, query = {}) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== null && value !== undefined && value !== "") search.set(name, String(value));
  }
  const text = search.toString();
  return BASE + path + (text ? `?${text}` : "");
}

async function request(method, address, body) {
  let answer;
  try {
    answer = await fetch(address, {
      method,
      headers: body === undefined ? { accept: "application/json" } : { accept: "application/json", "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_MS_MAX),
      cache: "no-store",
    });
  } catch (cause) {
    const late = cause.name === "TimeoutError";
    throw new ApiError(0, late ? "timeout" : "unreachable", late ? "holdfast did not answer in time" : "holdfast can't be reached", "");
  }
  const isJson = (answer.headers.get("content-type") ?? "").includes("json");
  const content = await (isJson ? answer.json() : answer.text()).catch(() => null);
  if (answer.ok) return content;
  const fault = isJson && content ? content : {};
  throw new ApiError(answer.status, fault.code ?? "failed", fault.message ?? `holdfast answered ${answer.status}`, fault.help);
}

/** GET. */
export const get = (path, query) => request("GET", url(path, query));

/** POST. */
export const post = (path, body) => request("POST", url(path), body);

/** Everything that is to be seen. */
export const status = () => get("/status");

/** Who we are: `{name, role}`. */
export const whoami = () => get("/whoami");

/** The causal chain of a subject. */
export const why = (subject) => get(`/why/${encodeURIComponent(subject)}`);

/** Does something with a service or an instance; `body` only for signals and modes. */
export const act = (target, action, body) => post(`/services/${encodeURIComponent(target)}/${action}`, body);

/** Events, by filter; newest first unless `order` says otherwise. */
export async function events(query) {
  const content = await get("/events", { order: "desc", ...query });
  return content?.events ?? [];
}

/** The last samples of all instances: a map of name to list. */
export async function allSamples() {
  const content = await get("/samples");
  return new Map(Object.entries(content?.samples ?? {}).map(([name, rows]) => [name, rows.map(shortSample)]));
}

/** The last samples of one instance. */
export async function samples(instance) {
  const content = await get(`/samples/${encodeURIComponent(instance)}`);
  return (content?.samples ?? []).map(sampleOf);
}

/** Where the numbers of an instance's detectors went: `{run, trends}`, by detector. */
export async function trends(instance) {
  const content = await get(`/trends/${encodeURIComponent(instance)}`);
  const points = (rows) => rows.map(([atUs, value]) => ({ atUs, value }));
  return { run: content?.run ?? null, trends: new Map(Object.entries(content?.trends ?? {}).map(([name, rows]) => [name, points(rows)])) };
}

/** Evidence that is kept of a service or an instance, newest first. */
export async function evidence(of) {
  const content = await get("/evidence", { of });
  return content?.bundles ?? [];
}

/** What one bundle of evidence says of itself. */
export const bundle = (instance, id) => get(`/evidence/${encodeURIComponent(instance)}/${encodeURIComponent(id)}`);

/** The address of a file of a bundle. */
export const bundleFile = (instance, id, file) => url(`/evidence/${encodeURIComponent(instance)}/${encodeURIComponent(id)}/${encodeURIComponent(file)}`);

/** The last lines of an instance's log, oldest first. */
export async function logLines(instance, lines) {
  const content = await get(`/logs/${encodeURIComponent(instance)}`, { lines });
  return content?.lines ?? [];
}

/** `[at_us, rss_bytes, cpu_percent]` as a sample. */
function shortSample([atUs, rss, cpu]) {
  return { atUs, rss, cpu };
}

/** A sample of the API as `{atUs, rss, cpu}`. */
export function sampleOf(row) {
  return { atUs: row.at_us, rss: row.rss_bytes, cpu: row.cpu_percent };
}
