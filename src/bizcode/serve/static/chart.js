// Charts by uPlot, in the page's colours, with the same numbers as a table for those who can't see them.

import { bucket, h, number, table, tick, word, zone } from "./core.js";

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function draw(place, points, series, options) {
  const ink = colour("--faint"), line = colour("--line");
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { show: false }, font: "12px " + colour("--font") };
  const bars = options.bars && series.length === 1;
  const several = series.length > 1;
  const made = series.map((one, n) => {
    const shade = colour(`--c${(n % 8) + 1}`);
    const kind = bars ? { paths: uPlot.paths.bars({ size: [0.72, 60], radius: 0.12 }), fill: shade, width: 0 }
      : { width: 2, fill: several ? undefined : shade + "1c" };
    return { label: one.name, stroke: shade, points: { show: one.values.filter((value) => value !== null && value !== undefined).length < 3, fill: shade, size: 7 }, spanGaps: false, value: (_, value) => (value === null || value === undefined ? "" : (options.format ?? number)(value)), ...kind, ...(one.style?.(shade) ?? {}) };
  });
  const chart = new uPlot({
    width: Math.max(240, place.clientWidth), height: options.height ?? 270,
    tzDate: (time) => uPlot.tzDate(new Date(time * 1000), zone),
    cursor: { y: false, points: { size: 7 } },
    scales: { y: { range: (_, low, high) => (low === null ? [0, 1] : [Math.min(0, low), high <= 0 ? 0.1 : high * 1.08]) }, x: { range: (_, low, high) => (low === high ? [low - 86400, high + 86400] : bars ? [low - (high - low) / points.length / 1.6, high + (high - low) / points.length / 1.6] : [low, high]) } },
    axes: [{ ...axis, grid: { show: false }, size: 36, space: 86, values: (_, times, __, ___, apart) => times.map((time) => tick(time, apart)) }, { ...axis, size: 62, values: (_, ticks) => ticks.map(options.format ?? ((one) => (Math.abs(one) >= 10000 ? new Intl.NumberFormat("en", { notation: "compact" }).format(one) : new Intl.NumberFormat("en", { maximumSignificantDigits: 4 }).format(one)))) }],
    series: [{ value: (_, time) => (time === null ? "" : bucket(new Date(time * 1000).toISOString(), options.unit)) }, ...made],
  }, [points, ...series.map((one) => one.values)], place);
  return chart;
}

/** points: ISO texts; series: [{name, values, style}]; options: unit, bars, format, label. */
export function chart(points, series, options = {}) {
  const place = h("div.chart", { role: "img", "aria-label": options.label ?? series.map((one) => one.name).join(", ") });
  const times = points.map((iso) => Date.parse(iso) / 1000);
  let drawn = null;
  const again = () => { drawn?.destroy(); drawn = place.isConnected ? draw(place, times, series, options) : null; };
  let width = 0;
  new ResizeObserver(() => { if (place.clientWidth !== width) { width = place.clientWidth; drawn ? drawn.setSize({ width: Math.max(240, width), height: options.height ?? 270 }) : again(); } }).observe(place);
  addEventListener("theme", again);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  const rows = () => points.map((iso, n) => [bucket(iso, options.unit), ...series.map((one) => (options.format ?? number)(one.values[n]))]);
  const opened = h("details", { ontoggle: () => opened.childElementCount === 1 && opened.append(table(options.label ?? "Numbers", [options.unit ?? "time", ...series.map((one) => ({ text: one.name, n: true }))], rows())) }, h("summary", {}, "The numbers as a table"));
  return h("div", {}, place, opened);
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
