// What every page needs: the API, elements, words for numbers and times. Text is only ever set as text.

const body = document.body.dataset;
export const base = body.base, zone = body.zone, admin = body.scope === "admin";

export async function api(path, parameters = {}, sent) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of Array.isArray(value) ? value : [value]) {
      if (one === undefined || one === null || one === "") continue;
      query.append(name, typeof one === "object" ? JSON.stringify(one) : one);
    }
  }
  const url = `${base}/api/v1${path}${query.size ? "?" + query : ""}`;
  const options = sent === undefined ? {} : { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(sent) };
  const answer = await fetch(url, options);
  if (answer.status === 401) { location.href = `${base}/login`; return new Promise(() => {}); }
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error.message);
  return found;
}

export const path = (...parts) => "/" + parts.map(encodeURIComponent).join("/");

export function h(tag, properties = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const made = document.createElement(name || "div");
  if (classes.length) made.className = classes.join(" ");
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (key === "style") for (const [part, one] of Object.entries(value)) made.style.setProperty(part, one);
    else if (key === "value") made.value = value;
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false).map((child) => (child instanceof Node ? child : String(child))));
  return made;
}

export function svg(tag, properties, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [key, value] of Object.entries(properties)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export const fill = (place, ...children) => (place.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false)), place);

export function say(text) { document.getElementById("said").textContent = text; }

// words

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const parts = new Intl.NumberFormat("en", { maximumFractionDigits: 2, minimumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const fine = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const minus = (text) => text.replace("-", "−");
export function number(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return minus(whole.format(value));
  const size = Math.abs(value);
  return minus((size >= 100_000 ? whole : size >= 0.1 ? parts : fine).format(value));
}
/** One way to write all numbers of a column, so that their decimals stand below each other. */
export function column(values) {
  const known = values.filter((value) => typeof value === "number");
  const broken = known.some((value) => !Number.isInteger(value)), sizes = known.map(Math.abs).filter((size) => size > 0);
  const how = !broken || Math.max(0, ...sizes) >= 1e6 ? whole : Math.min(...sizes) >= 0.01 ? parts : null;
  return (value) => (typeof value === "number" && how ? minus(how.format(value)) : number(value));
}
/** A number that was worked out, like a projection: no finer than what it is compared with. */
export const about = (value, like) => number(typeof value === "number" && (Number.isInteger(like) || Math.abs(value) >= 1000) ? Math.round(value) : value);
export const percent = (share, digits = 1) => (share === null || share === undefined ? "–" : `${(share * 100).toFixed(digits)} %`);
export const chance = (p) => (p === null || p === undefined ? "" : p < 0.0001 ? "< 0.0001" : number(p));
export const signed = (share) => (share === null || share === undefined ? "–" : `${share > 0 ? "+" : share < 0 ? "−" : ""}${Math.abs(share * 100).toFixed(1)} %`);
export function elapsed(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]]) if (seconds >= size) return `${short.format(seconds / size)} ${unit}`;
  return `${short.format(seconds)} s`;
}

const formats = new Map();
function format(options) {
  const key = JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, ...options }));
  return formats.get(key);
}
const DAY = { day: "numeric", month: "short", year: "numeric" };
export const moment = (iso) => (iso ? format({ ...DAY, hour: "2-digit", minute: "2-digit", second: "2-digit" }).format(new Date(iso)) : "–");
export const day = (iso) => (iso ? format(DAY).format(new Date(iso.length === 10 ? iso + "T12:00:00Z" : iso)) : "–");
export function bucket(iso, unit) {
  const date = new Date(iso);
  if (unit === "minute" || unit === "hour") return format({ ...DAY, hour: "2-digit", minute: "2-digit" }).format(date);
  if (unit === "month") return format({ month: "short", year: "numeric" }).format(date);
  if (unit === "year") return format({ year: "numeric" }).format(date);
  if (unit === "quarter") { const [month, year] = [format({ month: "numeric" }).format(date), format({ year: "numeric" }).format(date)]; return `Q${Math.ceil(month / 3)} ${year}`; }
  return format(DAY).format(date);
}
const INSTANT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[^ ]*$/;
export const word = (value) => (value === null || value === undefined ? "(none)" : typeof value === "object" ? JSON.stringify(value) : INSTANT.test(value) ? moment(value) : String(value));
/** When a tick of a chart's time axis is, as short as the ticks' distance (in seconds) allows. */
export function tick(time, apart) {
  const date = new Date(time * 1000);
  if (apart >= 300 * 86400) return format({ year: "numeric" }).format(date);
  if (apart >= 27 * 86400) return format({ month: "short", year: "numeric" }).format(date);
  return apart >= 86400 ? format({ day: "numeric", month: "short" }).format(date) : format({ hour: "2-digit", minute: "2-digit" }).format(date);
}

export function change(comparison) {
  if (!comparison || comparison.change === null) return h("span.faint.small", {}, "no previous period");
  if (comparison.percent === null) return h("span.faint.small", {}, comparison.previous === 0 ? "new" : "");
  const up = comparison.change > 0, same = comparison.change === 0;
  const text = same ? "unchanged" : `${up ? "▲" : "▼"} ${Math.abs(comparison.percent).toFixed(1)} %`;
  return h("span.small.faint", { title: "the time before, equally long" }, h(`span${same ? "" : up ? ".up" : ".down"}`, {}, text, h("span.unseen", {}, same ? "" : up ? " up" : " down")), ` from ${number(comparison.previous)}`);
}

// parts of pages

export function spark(values, before = []) {
  const known = [...values, ...before].filter((value) => value !== null && value !== undefined);
  if (values.length < 2 || !known.length) return h("div.spark");
  const low = Math.min(0, ...known), high = Math.max(...known, low + 1e-9);
  const line = (list) => list.map((value, n) => (value === null || value === undefined ? "" : `${n && list[n - 1] !== null ? "L" : "M"}${((n / (values.length - 1)) * 100).toFixed(2)},${(32 - ((value - low) / (high - low)) * 30).toFixed(2)}`)).join(" ");
  const whole = values.every((value) => value !== null);
  return svg("svg", { class: "spark", viewBox: "0 0 100 33", preserveAspectRatio: "none", "aria-hidden": "true" },
    whole ? svg("path", { class: "fill", d: `${line(values).replace("M", "M0,33 L")} L100,33 Z` }) : "", before.length > 1 ? svg("path", { class: "before", d: line(before) }) : "", svg("path", { d: line(values) }));
}

export const STATUS = { achieved: "good", "on-track": "good", running: "good", ok: "good", started: "good", "at-risk": "warn", paused: "warn", pending: "warn", "off-track": "bad", missed: "bad", firing: "bad", failed: "bad" };
export const badge = (text) => h(`span.badge${STATUS[text] ? "." + STATUS[text] : ""}`, {}, text);
export const card = (title, aside, ...children) => h("section.card", {}, title === null ? null : h("header", {}, h("h2", {}, title), aside), ...children);
/** What stands where there is nothing yet: what it is for, and the code that begins it. */
export const empty = (text, code) => h("div.empty", {}, h("p", {}, text), code ? h("pre", { tabindex: "0" }, code) : null);
export const bar = (share, kind = "", label = "") => h(`div.bar${kind ? "." + kind : ""}`, { role: "img", "aria-label": label }, h("i", { style: { width: `${Math.max(0, Math.min(1, share)) * 100}%` } }));

export function table(caption, heads, rows, options = {}) {
  const cell = (value, n) => h(heads[n]?.n ? "td.n" : "td", {}, value);
  return h("div.scroll", { tabindex: "0", role: "region", "aria-label": caption }, h(`table${options.kind ? "." + options.kind : ""}`, {},
    h("caption.unseen", {}, caption),
    h("thead", {}, h("tr", {}, heads.map((head) => h(head.n ? "th.n" : "th", { scope: "col" }, head.text ?? head)))),
    h("tbody", {}, rows.map((row) => (row instanceof Node ? row : h("tr", {}, row.map(cell)))))));
}

export function pick(label, choices, chosen, changed) {
  const buttons = choices.map(([value, text]) => h("button", { type: "button", "aria-pressed": String(value === chosen), onclick: () => {
    for (const [n, one] of buttons.entries()) one.setAttribute("aria-pressed", String(choices[n][0] === value));
    changed(value);
  } }, text));
  return h("div.pick", { role: "group", "aria-label": label }, buttons);
}

export function select(label, choices, chosen, changed, hidden = false) {
  const control = h("select", { "aria-label": label, onchange: () => changed?.(control.value) }, choices.map((one) => {
    const [value, text] = Array.isArray(one) ? one : [one, one];
    return h("option", { value, selected: value === chosen }, text);
  }));
  const made = h("label", {}, hidden ? "" : label, control);
  return made;
}

export const RANGES = [["today", "Today"], ["7d", "7 days"], ["28d", "28 days"], ["90d", "90 days"], ["1y", "1 year"], ["", "All"]];

const kept = new URLSearchParams(location.search);
export const given = (name, other = "") => kept.get(name) ?? other;
export const givenList = (name) => { try { return JSON.parse(kept.get(name) ?? "[]"); } catch { return []; } };
export function keep(values) {
  for (const [name, value] of Object.entries(values)) {
    const text = Array.isArray(value) ? (value.length ? JSON.stringify(value) : undefined) : value;
    if (text === null || text === undefined) kept.delete(name); else kept.set(name, text);
  }
  history.replaceState(null, "", kept.size ? "?" + kept : location.pathname);
}

/** Fills a place. While one filling is under way only the newest of those asked for waits: an old answer that comes
 *  late never stands in place of a newer one. */
export function into(place, work) {
  if (place.filling) { place.next = work; return place.filling; }
  place.filling = (async () => {
    place.setAttribute("aria-busy", "true");
    for (let now = work; now; now = place.next) {
      place.next = null;
      try { await now(); }
      catch (error) { fill(place, h("p.notice.bad", { role: "alert" }, error.message)); }
    }
    place.filling = null;
    place.setAttribute("aria-busy", "false");
  })();
  return place.filling;
}

export function live(parameters, told) {
  const query = new URLSearchParams(parameters), source = new EventSource(`${base}/api/v1/live?${query}`);
  const light = h("span.dot", { title: "What is recorded appears at once" }, "live");
  source.onopen = () => light.classList.add("on");
  source.onerror = () => light.classList.remove("on");
  for (const [kind, heard] of Object.entries(told)) source.addEventListener(kind, (message) => message.data && heard(JSON.parse(message.data)));
  addEventListener("pagehide", () => source.close());
  light.close = () => source.close();
  return light;
}

/** Calls work soon, but not twice within the pace, nor so often that it would keep the server busy. */
export function calmly(work, pace = 2000) {
  let next = 0, waiting = null;
  return () => {
    if (waiting) return;
    waiting = setTimeout(async () => {
      const began = Date.now();
      try { await work(); } finally {
        waiting = null;
        next = Date.now() + Math.max(pace, 8 * (Date.now() - began));
      }
    }, Math.max(0, next - Date.now()));
  };
}
