// Charts by uPlot, in the page's colours, with the same numbers as a table for those who can't see them.

import { bucket, column, h, table, tick, word, zone } from "./core.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const LENGTHS = { minute: 60, hour: 3600, day: 86400, week: 7 * 86400 };
const DAYS = { "7d": 7, "28d": 28, "90d": 90, "1y": 365 };
function after(time, unit) {
  if (LENGTHS[unit]) return time + LENGTHS[unit] * 1000;
  const date = new Date(time + 12 * 3600_000);
  return date.setUTCMonth(date.getUTCMonth() + { month: 1, quarter: 3, year: 12 }[unit]) - 12 * 3600_000;
}

/** Of buckets, by their beginnings: how many have begun, and which of them lie in the range only in part. */
export function parts(points, unit, since, now) {
  const times = points.map((iso) => Date.parse(iso)), end = Date.parse(now);
  const count = times.filter((time) => time < end).length, partial = new Set();
  if (count && after(times[count - 1], unit) > end + 1000) partial.add(count - 1);
  if (DAYS[since] && count && times[0] < end - DAYS[since] * 86400_000 - 1000) partial.add(0);
  return { count, partial };
}

function draw(place, points, series, options) {
  const ink = colour("--faint"), line = colour("--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px " + colour("--font") };
  const bars = options.bars && points.length <= 120, partial = options.partial ?? new Set();
  const several = series.length > 1 && !bars;
  const made = [], values = [];
  for (const [n, one] of series.entries()) {
    const shade = colour(`--c${(n % 8) + 1}`), shown = options.format ?? column(one.values), drawn = bars && n === 0;
    const look = { label: one.name, stroke: shade, spanGaps: false, value: (_, __, ___, at) => (at === null || at === undefined || one.values[at] === null || one.values[at] === undefined ? "" : shown(one.values[at])) };
    if (drawn) {
      const fills = one.values.map((_, at) => (partial.has(at) ? shade + "55" : shade));
      made.push({ ...look, width: 0, fill: shade, points: { show: false }, paths: uPlot.paths.bars({ size: [0.72, 60], radius: 0.12, disp: { fill: { unit: 3, values: () => fills }, stroke: { unit: 3, values: () => fills } } }) });
      values.push(one.values);
      continue;
    }
    const few = one.values.filter((value) => value !== null && value !== undefined).length < 3;
    const whole = one.values.map((value, at) => (partial.has(at) ? null : value));
    made.push({ ...look, width: 2, fill: several || bars ? undefined : shade + "1c", points: { show: few, fill: shade, size: 7 }, ...(one.style?.(shade) ?? {}) });
    values.push(few || one.style ? one.values : whole);
    if (!few && !one.style && partial.size) {
      made.push({ ...look, class: "u-part", width: 2, dash: [3, 4], points: { show: false } });
      values.push(one.values.map((value, at) => (partial.has(at) || partial.has(at + 1) || partial.has(at - 1) ? value : null)));
    }
  }
  const high = (top) => (top <= 0 ? 0.1 : top * 1.04);
  return new uPlot({
    width: Math.max(240, place.clientWidth), height: options.height ?? 270, padding: [10, 18, 0, 0],
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), zone),
    cursor: { y: false, points: { size: 7 } },
    scales: { y: { range: (_, low, top) => (low === null ? [0, 1] : [Math.min(0, low), high(top)]) }, x: { range: (_, low, top) => (low === top ? [low - 86400, top + 86400] : bars ? [low - (top - low) / points.length / 1.6, top + (top - low) / points.length / 1.6] : [low, top]) } },
    axes: [{ ...axis, grid: { show: false }, size: 34, space: 86, values: (_, times, __, ___, apart) => times.map((time) => tick(time, apart)) }, { ...axis, size: 56, values: (_, ticks) => ticks.map(options.format ?? ((one) => (Math.abs(one) >= 10000 ? new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 }).format(one) : new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(one)))) }],
    series: [{ value: (_, time) => (time === null ? "" : bucket(new Date(time * 1000).toISOString(), options.unit)) }, ...made],
    bands: options.band ? [{ series: options.band, fill: colour("--c2") + "26" }] : [],
  }, [points, ...values], place);
}

/** points: ISO texts; series: [{name, values, style}]; options: unit, bars, format, label, partial (places of buckets that
 *  aren't whole), band (two series, filled between). */
export function chart(points, series, options = {}) {
  const place = h("div.chart", { role: "img", "aria-label": options.label ?? series.map((one) => one.name).join(", ") });
  const times = points.map((iso) => Date.parse(iso) / 1000);
  let drawn = null;
  const again = () => { drawn?.destroy(); drawn = place.isConnected ? draw(place, times, series, options) : null; };
  let width = 0;
  new ResizeObserver(() => { if (place.clientWidth !== width) { width = place.clientWidth; drawn ? drawn.setSize({ width: Math.max(240, width), height: options.height ?? 270 }) : again(); } }).observe(place);
  addEventListener("theme", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  const shown = series.map((one) => options.format ?? column(one.values)), partial = options.partial ?? new Set();
  const rows = () => points.map((iso, n) => [bucket(iso, options.unit) + (partial.has(n) ? " (in part)" : ""), ...series.map((one, at) => shown[at](one.values[n]))]);
  const opened = h("details", { ontoggle: () => opened.childElementCount === 1 && opened.append(table(options.label ?? "Numbers", [options.unit ?? "time", ...series.map((one) => ({ text: one.name, n: true }))], rows())) }, h("summary", {}, "The numbers as a table"));
  const told = partial.size ? h("p.faint.small.part", {}, `${options.bars && points.length <= 120 ? "Lighter" : "Dotted"}: a${options.unit === "hour" ? "n" : ""} ${options.unit} of which only a part lies in this range.`) : null;
  return h("div", {}, place, told, opened);
}

/** Groups of the API, with a bucket first: {points, series}, the largest series first. */
export function split(groups, most = 8) {
  const points = [...new Set(groups.map((row) => row.key[0]))];
  const at = new Map(points.map((point, n) => [point, n]));
  const found = new Map();
  for (const row of groups) {
    const name = row.key.length > 1 ? row.key.slice(1).map(word).join(" · ") : "";
    if (!found.has(name)) found.set(name, new Array(points.length).fill(null));
    found.get(name)[at.get(row.key[0])] = row.value;
  }
  const total = (values) => values.reduce((sum, value) => sum + (value ?? 0), 0);
  const series = [...found].map(([name, values]) => ({ name, values })).sort((a, b) => total(b.values) - total(a.values));
  return { points, series: series.slice(0, most), left: Math.max(0, series.length - most) };
}
