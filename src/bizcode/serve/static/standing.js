// Pages that show where things stand: overview, goals, experiments, views, streams, entities, dead letters, connect.

import { about, admin, api, badge, bar, base, calmly, card, chance, change, column, day, empty, fill, given, h, into, keep, live, moment, number, path, percent, pick, RANGES, say, select, signed, spark, svg, table, word } from "./core.js";
import { chart, parts } from "./chart.js";

const KIND = { achieved: "good", "on-track": "good", "at-risk": "warn", "off-track": "bad", missed: "bad" };

function goal(one) {
  const found = one.progress.value;
  if (!found) return h("div.card.tile", {}, h("div.name", {}, h("b", {}, one.name), badge(one.state)), h("p.small.faint", {}, one.progress.reason));
  const left = found.days_left === null ? "no deadline" : found.days_left < 0 ? `${-found.days_left} days over` : `${found.days_left} days left`;
  return h("a.card.tile", { href: `${base}/goals` }, h("div.name", {}, h("b", {}, one.name), badge(found.status)),
    found.targets ? h("div.number", {}, percent(found.percent / 100, 0)) : h("div", {}, h("span.number", { "data-current": found.current }, number(found.current)), h("span.faint", {}, ` of ${number(found.target)}`)),
    bar(found.percent / 100, KIND[found.status] ?? "", `${found.percent.toFixed(0)} percent`),
    h("p.small.faint", {}, `${percent(found.percent / 100, 0)}, ${left}`, found.projected === null ? "" : `; projected ${about(found.projected, found.current)}${found.probability === null ? "" : `, ${percent(found.probability, 0)} likely`}`));
}

// A deadline is the end of its day, which is the beginning of the next.
const lastDay = (iso) => day(new Date(new Date(iso) - 1).toISOString());

/** The first morning: nothing is there yet. */
const begin = () => card("Begin here", null, h("ol.begin", {},
  h("li", {}, h("p", {}, h("b", {}, "Send events. "), "PostHog's and Segment's SDKs work as they are, once they are ", h("a", { href: `${base}/connect` }, "pointed at this host"), ". Or in Python:"), h("pre", { tabindex: "0" }, "biz.track.Signup(user_id=\"u1\", plan=\"pro\")\nbiz.measure.revenue(99, plan=\"pro\")")),
  h("li", {}, h("p", {}, h("b", {}, "Say what you want. "), "Its progress and where it will end stand here every morning:"), h("pre", { tabindex: "0" }, "biz.goal.define(\"Q1\", target=biz.measure.revenue.sum().reach(100_000), by=\"2025-Q1\")")),
  h("li", {}, h("p", {}, h("b", {}, "Look. "), "This page fills by itself as soon as something arrives."))));

export async function overview(root) {
  let since = given("since", "28d"), chosen = "";
  const out = h("div.stack"), tools = document.getElementById("tools");
  let seen = Infinity, newest = 0;
  const run = () => into(out, async () => {
    keep({ since: since === "28d" ? undefined : since });
    const found = (await api("/overview", { since })).result;
    seen = found.position;
    look();
    const { unit } = found, whole = (days) => {
      const { count, partial } = parts(days.map((one) => one.key[0]), unit, since, found.now);
      return days.slice(0, count).filter((_, n) => !partial.has(n));
    };
    const tile = (name, kind, link, comparison, days, below) => h("a.card.tile", { href: link, "data-name": name }, h("div.name", {}, h("b", {}, name), h("span.small", {}, kind)), h("div.number", { "data-value": comparison.current }, number(comparison.current)), h("div.small.faint", {}, change(comparison), below && [" · ", below]), spark(whole(days).map((one) => one.value.current), whole(days).map((one) => one.value.previous)));
    const running = found.experiments.map((one) => h("tr.link", { onclick: () => { location.href = `${base}/experiments`; } }, h("td", {}, h("a", { href: `${base}/experiments` }, one.name)), h("td", {}, one.value ? one.value.verdict : h("span.faint", {}, one.reason)), h("td.n", {}, one.value ? number(Object.values(one.value.variants).reduce((sum, variant) => sum + variant.users, 0)) : "")));
    const firing = found.alerts.filter((one) => one.state !== "ok");
    const all = [...found.metrics.map((one) => ({ ...one, value: one.value })), ...found.events.map((one) => ({ ...one, operation: "count", value: one.count }))].filter((one) => one.days.length > 1);
    const hero = h("div"), draw = (name) => {
      chosen = name;
      const one = all.find((other) => `${other.name}: ${other.operation}` === name) ?? all[0];
      const { count, partial } = parts(one.days.map((day_) => day_.key[0]), unit, since, found.now), days = one.days.slice(0, count);
      fill(hero, chart(days.map((day_) => day_.key[0]), [{ name: one.name, values: days.map((day_) => day_.value.current) }, { name: "period before", values: days.map((day_) => day_.value.previous), style: (shade) => ({ stroke: shade, dash: [4, 4], width: 1.5, fill: undefined }) }], { unit, bars: true, partial, label: `${one.name} by ${unit}, beside the period before`, height: 250 }));
    };
    const nothing = !found.events.length && !found.metrics.length;
    fill(out,
      firing.length ? h("p.notice.bad", { role: "alert" }, `Firing: ${firing.map((one) => `${one.name} (${one.metric})`).join(", ")}`) : null,
      found.dead_letters ? h("p.notice", {}, h("a", { href: `${base}/dead-letters` }, `${found.dead_letters} records could not be handled`)) : null,
      nothing ? (found.position ? card(null, null, empty("Nothing was recorded in this time: look further back.")) : begin()) : null,
      nothing ? null : h("div.grid", {}, found.metrics.map((one) => tile(one.name, one.operation === "avg" ? "average" : "sum", `${base}/metrics?metric=${encodeURIComponent(one.name)}&since=${since}`, one.value, one.days, one.current === null ? null : `now ${number(one.current)}`)),
        found.events.map((one) => tile(one.name, "count", `${base}/events?event=${encodeURIComponent(one.name)}&since=${since}`, one.count, one.days, `${number(one.users.current)} users`))),
      all.length ? card(`By ${unit}`, select("Drawn", all.map((one) => `${one.name}: ${one.operation}`), chosen, draw, true), hero) : null,
      found.goals.length ? h("section.stack", {}, h("h2", {}, "Goals"), h("div.grid", {}, found.goals.map(goal))) : null,
      h("div.halves", {}, running.length ? card("Running experiments", null, table("Running experiments", ["experiment", "verdict", { text: "users", n: true }], running)) : null,
        found.alerts.length ? card("Alerts", null, table("Alerts", ["alert", "watches", "state"], found.alerts.map((one) => [one.name, one.metric, badge(one.enabled ? one.state : "off")]))) : null));
    if (all.length) draw(chosen);
  });
  const again = calmly(run, 3000), look = () => newest > seen && again();
  fill(tools, live({}, { head: ({ position }) => { newest = position; look(); } }), pick("Time range", RANGES.filter(([value]) => value), since, (value) => { since = value; run(); }));
  fill(root, out);
  await run();
}

/** The way of a goal so far, and as it is projected to go on until its deadline. */
function course(one, p, points) {
  if (points.length < 2) return null;
  const ahead = p.projected !== null && one.by, count = points.length;
  const times = [...points.map((point) => point.date + "T12:00:00Z"), ...(ahead ? [new Date(new Date(one.by) - 1).toISOString()] : [])];
  if (ahead && times[count] <= times[count - 1]) times[count] = new Date(Date.parse(times[count - 1]) + 43200_000).toISOString();
  const way = (end) => [...points.map((_, n) => (n === count - 1 ? p.current : null)), ...(ahead ? [end] : [])];
  const line = (dash, width = 2) => (shade) => ({ dash, width, stroke: shade, spanGaps: true, fill: undefined, points: { show: false } });
  const edge = (shade) => ({ ...line([], 0)(shade), class: "u-part" });
  const series = [{ name: one.name, values: [...points.map((point) => point.value), ...(ahead ? [null] : [])] }, { name: "target", values: times.map(() => p.target), style: line([6, 4]) }];
  if (ahead) series.push({ name: "projected", values: way(p.projected), style: line([3, 3]) });
  if (ahead && p.interval) series.push({ name: "80 % low", values: way(p.interval[0]), style: edge }, { name: "80 % high", values: way(p.interval[1]), style: edge });
  return chart(times, series, { unit: "day", label: `${one.name} by day, with its projection`, height: 250, band: ahead && p.interval ? [5, 4] : null });
}

export async function goals(root) {
  const [{ result: found }, { result: info }] = await Promise.all([api("/goals"), api("/info")]), now = new Date(info.now);
  if (!found.length) return fill(root, card(null, null, empty("No goals yet. Define one in the file that you give to bizcode serve:", "biz.goal.define(\n    \"Q1\",\n    target=biz.measure.revenue.sum().reach(100_000),\n    by=\"2025-Q1\",\n)")));
  fill(root, found.map((one) => {
    const p = one.progress.value, history = h("div");
    const facts = p && [["current", p.current], ["target", p.target], ["remaining", p.remaining], ["days left", p.days_left], ["projected", about(p.projected, p.current)], ["80 % interval", p.interval && `${about(p.interval[0], p.current)} … ${about(p.interval[1], p.current)}`], ["probability", p.probability === null ? null : percent(p.probability, 0)], ["owner", one.owner], ["deadline", one.by && lastDay(one.by)]].filter(([, value]) => value !== null && value !== undefined);
    if (p && !p.targets) into(history, async () => fill(history, course(one, p, (await api(path("goals", one.name, "history"), { limit: 60, every: Math.max(1, Math.ceil((now - new Date(one.defined)) / (40 * 86400_000))) })).result)));
    return card(one.name, badge(p ? p.status : one.state), p ? [bar(p.percent / 100, KIND[p.status] ?? "", `${p.percent.toFixed(0)} percent`), h("p.small.faint", { style: { margin: "6px 0 12px" } }, `${percent(p.percent / 100, 1)} of the way`),
      p.targets ? table("Targets", ["target", { text: "current", n: true }, { text: "goal", n: true }, "status"], p.targets.map((part) => [part.name, number(part.current), number(part.target), badge(part.status)])) : h("div.halves", {}, table("Standing", ["", { text: "", n: true }], facts.map(([name, value]) => [name, number(value)])), history)] : h("p.faint", {}, one.progress.reason));
  }));
}

function forest(variants, most) {
  return (one) => {
    if (!one.lift_ci) return "";
    const at = (value) => (95 + (Math.max(-most, Math.min(most, value)) / most) * 90).toFixed(1);
    return svg("svg", { class: "forest", viewBox: "0 0 190 24", role: "img", "aria-label": `lift ${signed(one.lift)}, from ${signed(one.lift_ci[0])} to ${signed(one.lift_ci[1])}` }, svg("line", { class: "zero", x1: 95, x2: 95, y1: 2, y2: 22 }), svg("line", { class: "ci", x1: at(one.lift_ci[0]), x2: at(one.lift_ci[1]), y1: 12, y2: 12 }), svg("circle", { cx: at(one.lift), cy: 12, r: 4.5 }));
  };
}

export async function experiments(root) {
  const found = (await api("/experiments")).result;
  if (!found.length) return fill(root, card(null, null, empty("No experiments yet. Each is a feature flag of PostHog's SDKs too:", "biz.experiment.define(\n    \"pricing\",\n    variants=[\"control\", \"value\"],\n    goal=biz.track.Purchase.unique(),\n    autostart=True,\n)")));
  fill(root, found.map((info) => {
    const place = h("div", { "aria-busy": "true" });
    into(place, async () => {
      const result = (await api(path("experiments", info.name, "results"))).result;
      const rows = Object.entries(result.variants), rated = rows.some(([, one]) => one.rate !== null);
      const most = Math.max(0.01, ...rows.flatMap(([, one]) => (one.lift_ci ?? []).map(Math.abs)));
      const shape = forest(rows, most);
      const daily = h("details", { ontoggle: () => daily.childElementCount === 1 && into(daily.appendChild(h("div")), async () => {
        const days = (await api(path("experiments", info.name, "daily"))).result;
        const others = info.variants.slice(1);
        fill(daily.lastChild, days.length > 1 ? chart(days.map((one) => one.day), others.map((name) => ({ name: `lift of ${name}`, values: days.map((one) => one.variants[name]?.lift ?? null) })), { unit: "day", format: (value) => (value === null || value === undefined ? "–" : signed(value)), label: "Lift by day, cumulative" }) : empty("It has run for one day only."));
      }) }, h("summary", {}, "Lift by day"));
      fill(place, h("p", { style: { "font-size": "16px", "margin-bottom": "4px" } }, h("b", {}, result.verdict)),
        h("p.faint.small", { style: { "margin-bottom": "12px" } }, `${result.goal ?? "no goal"}; ${number(Math.floor(result.days))} days${result.needed_sample_size ? `; about ${number(result.needed_sample_size)} users per variant would settle the difference seen` : ""}`),
        table("Results", ["variant", { text: "users", n: true }, { text: rated ? "conversions" : "with the goal", n: true }, { text: rated ? "rate" : "mean", n: true }, { text: "lift", n: true }, "95 % interval of the lift", { text: h("abbr", { title: "The chance of such a difference if there were none; to be read at the planned end" }, "p"), n: true }, { text: h("abbr", { title: "A p-value that holds however often it is looked at" }, "p, any day"), n: true }, { text: h("abbr", { title: "The chance that it is better than the control" }, "chance to beat"), n: true }],
          rows.map(([name, one], n) => [h("span", {}, name, n === 0 ? h("span.faint.small", {}, " control") : null, result.winner === name ? [" ", h("span.badge.good", {}, "winner")] : null), number(one.users), number(one.conversions), rated ? percent(one.rate, 2) : number(one.mean), n ? signed(one.lift) : "", one.lift_ci ? h("div.interval", {}, shape(one), h("span.small.faint.nowrap", {}, `${signed(one.lift_ci[0])} … ${signed(one.lift_ci[1])}`)) : "", chance(one.p_value), chance(one.p_sequential), one.chance_to_beat === null ? "" : percent(one.chance_to_beat)])),
        result.warnings.map((warning) => h("p.notice", { style: { "margin-top": "10px" } }, warning)), h("div", { style: { "margin-top": "12px" } }, daily));
    });
    return card(info.name, h("span.small.faint", {}, info.started ? `since ${day(info.started)}  ` : "", badge(info.status)), place);
  }));
}

export async function views(root) {
  const found = (await api("/views")).result;
  if (!found.length) return fill(root, card(null, null, empty("No views yet. Define one in the file that you give to bizcode serve:", "biz.view.define(\n    \"leaderboard\",\n    source=biz.track.Purchase,\n    group_by=\"user_id\",\n    compute=dict(spent=biz.sum(\"amount\")),\n)")));
  const out = h("div");
  let stream = null;
  const show = (name) => {
    keep({ view: name });
    stream?.close();
    const info = found.find((one) => one.name === name), place = h("div");
    let before = null;
    stream = live({ views: name }, {
      view: ({ rows }) => {
        const columns = [...new Set(rows.flatMap(Object.keys))];
        const numeric = new Set(columns.filter((one) => rows.every((row) => row[one] === null || typeof row[one] === "number")));
        const shown = Object.fromEntries([...numeric].map((one) => [one, column(rows.map((row) => row[one]))]));
        const seen = new Set(rows.map((row) => JSON.stringify(row)));
        fill(place, rows.length ? table(name, columns.map((one) => ({ text: one, n: numeric.has(one) })), rows.map((row) => h(`tr${before && !before.has(JSON.stringify(row)) ? ".flash" : ""}`, {}, columns.map((one) => h(numeric.has(one) ? "td.n" : "td", {}, numeric.has(one) ? shown[one](row[one]) : word(row[one])))))) : empty("The view has no rows."));
        if (before) say(`${name} changed`);
        before = seen;
      },
      error: (told) => told.message && fill(place, h("p.notice", {}, told.message)),
    });
    fill(out, card(name, stream, h("p.small.faint", { style: { "margin-bottom": "10px" } }, info.definition, `  ·  ${number(info.rows)} rows${info.rows > 100 ? ", the first 100 shown" : ""}`), place));
  };
  const first = found.some((one) => one.name === given("view")) ? given("view") : found[0].name;
  fill(root, h("div.form", {}, select("View", found.map((one) => one.name), first, show)), out);
  show(first);
}

export async function streams(root) {
  const place = h("div");
  const run = () => into(place, async () => {
    const found = (await api("/streams")).result;
    fill(place, found.length ? card(null, null, table("Streams", ["stream", "state", { text: "position", n: true }, { text: "lag", n: true }, "complete up to", { text: "open windows", n: true }, { text: "late", n: true }, { text: "dead", n: true }],
      found.map((one) => [h("b", {}, one.name), badge(one.state), number(one.position), h("span", { class: one.lag ? "badge warn" : "badge good" }, one.lag ? `${number(one.lag)} behind` : "none"), moment(one.watermark), number(one.open), number(one.late), one.dead ? h("a", { href: `${base}/dead-letters` }, number(one.dead)) : "0"])))
      : card(null, null, empty("No streams were started yet. Start one in the file that you give to bizcode serve:", "(\n    biz.stream.track.Purchase.window.tumbling(\"1h\")\n    .aggregate(amount=biz.sum(\"amount\"))\n    .to.measure.hourly_sales\n    .start()\n)")));
  });
  fill(document.getElementById("tools"), live({}, { head: calmly(run, 1000) }));
  fill(root, place);
  await run();
}

export async function entities(root) {
  const types = (await api("/entities")).result;
  if (!types.length) return fill(root, card(null, null, empty("No entities yet. Any capitalised name is a type:", "biz.Order(\"o1\").append(\"created\", total=199)")));
  const list = h("div"), one = h("div.stack");
  const first = types.some((found) => found.type === given("type")) ? given("type") : types[0].type;
  const type = select("Type", types.map((found) => [found.type, `${found.type} (${number(found.count)})`]), first, () => { keep({ type: type.control.value, id: undefined }); fill(one); search(); });
  const wanted = h("input", { type: "search", placeholder: "id", value: given("q"), oninput: calmly(() => search(), 250) });

  /** Gives the first id that was found. */
  async function search() {
    let hit = null;
    keep({ type: type.control.value, q: wanted.value || undefined });
    await into(list, async () => {
      const found = await api(path("entities", type.control.value), { q: wanted.value, limit: 50 });
      hit = found.result[0]?.id;
      const rows = found.result.map((row) => h("tr.link", { onclick: () => open(row.id) }, h("td", {}, h("button.plain", { type: "button" }, row.id)), h("td.n", {}, number(row.version))));
      fill(list, card(type.control.value, h("span.faint.small", {}, found.cursor ? "the first 50: search to narrow down" : `${rows.length} found`), rows.length ? table("Found", ["id", { text: "events", n: true }], rows) : empty("None has that id.")));
    });
    return hit;
  }

  async function open(id, chosen = true) {
    if (chosen) keep({ id });
    await into(one, async () => {
      const name = type.control.value;
      const [now, told] = await Promise.all([api(path("entities", name, id)), api(path("entities", name, id, "events"), { limit: 500 })]);
      const state = h("div"), items = told.result.map((event) => h("li", {}, h("h3", {}, event.type.split(".").slice(1).join(".") || event.type, h("span.faint.small", {}, `  v${event.version}, ${moment(event.timestamp)}`)), h("p.small", {}, Object.entries(event.data).map(([key, value]) => `${key}: ${word(value)}`).join("  ·  "))));
      const travel = h("input", { type: "range", min: "0", max: String(now.result.version), value: String(now.result.version), "aria-label": "Version to look at" }), label = h("span.small.faint");
      const show = async () => {
        const version = Number(travel.value), latest = version === now.result.version;
        const found = latest ? now : await api(path("entities", name, id), { version });
        const last = told.result.find((event) => event.version === version);
        label.textContent = latest ? `now, version ${version}` : `as it was at version ${version}${last ? `, ${moment(last.timestamp)}` : ""}`;
        travel.setAttribute("aria-valuetext", label.textContent);
        items.forEach((item, n) => item.classList.toggle("after", told.result[n].version > version));
        const fields = Object.entries(found.result.state ?? {});
        fill(state, fields.length ? table("State", ["field", "value"], fields.map(([key, value]) => [key, typeof value === "number" ? number(value) : word(value)])) : empty("Nothing had happened yet."));
      };
      travel.addEventListener("input", show);
      fill(one, card(`${name} ${id}`, label, travel, state), card("What happened", h("span.faint.small", {}, `${number(now.result.version)} events`), h("ol.timeline", {}, items.toReversed())));
      await show();
      if (chosen && innerWidth < 900) one.scrollIntoView();
    });
  }
  fill(root, card(null, null, h("div.form", {}, type, h("label", {}, "Search", wanted))), h("div.halves", {}, list, one));
  const hit = await search();
  if (given("id")) await open(given("id")); else if (hit && innerWidth >= 1000) await open(hit, false); else fill(one, card(null, null, empty("Choose one to see its state and what happened to it.")));
}

export async function dead(root) {
  const place = h("div");
  const run = () => into(place, async () => {
    const found = await api("/dead-letters", { limit: 200 });
    if (!found.result.length) return fill(place, card(null, null, empty("None. What a handler can't take after its retries comes here.")));
    const act = (what, id) => async () => { try { await api(`/dead-letters/${what}`, {}, { id }); say(what === "retry" ? "It is given to its handler again" : "It is discarded"); await run(); } catch (error) { say(error.message); alert(error.message); } };
    fill(place, card(`${number(found.total)} dead letters`, null, table("Dead letters", ["time", "consumer", "error", "record", ""], found.result.map((one) => [h("span.nowrap", {}, moment(one.timestamp)), one.consumer, h("code", {}, one.error), h("details", {}, h("summary", {}, one.record?.type ?? "what was to be done"), h("pre", {}, JSON.stringify(one.record, null, 2))), admin ? h("span.nowrap", {}, h("button", { type: "button", onclick: act("retry", one.id) }, "Retry"), " ", h("button", { type: "button", onclick: act("discard", one.id) }, "Discard")) : ""]))));
  });
  fill(document.getElementById("tools"), live({}, { head: calmly(run, 2000) }));
  fill(root, place);
  await run();
}

export async function connect(root) {
  const keys = admin ? (await api("/keys")).result : [];
  const writing = keys.filter((one) => one.scope === "write"), key = writing[0]?.text ?? "YOUR_WRITE_KEY", host = location.origin + base;
  const block = (title, text) => {
    const code = h("pre", { tabindex: "0" }, text);
    const copy = h("button.plain", { type: "button", onclick: async () => {
      // Browsers lend the clipboard to pages of this machine and of https only.
      try { await navigator.clipboard.writeText(text); copy.textContent = "Copied"; } catch { getSelection().selectAllChildren(code); copy.textContent = "Selected"; }
      say(copy.textContent);
    } }, "Copy");
    return card(title, copy, code);
  };
  fill(root, h("p", {}, "Point the SDK that you have at this host. Events appear on the ", h("a", { href: `${base}/events` }, "Events"), " page at once. PostHog's pasted snippet works too: set its api_host; the script comes from here. Running experiments are its feature flags."),
    admin ? card("Keys", null, keys.length ? table("Keys", ["name", "scope", "tenant", "key"], keys.map((one) => [one.name, one.scope, one.tenant ?? "", h("code", {}, one.text)])) : empty("None yet. Make one in the shell:", "bizcode keys --add write")) : null,
    h("div.halves", {}, block("PostHog, in pages", `posthog.init(\n  "${key}",\n  { api_host: "${host}" },\n)`), block("PostHog, in Python", `from posthog import Posthog\n\nposthog = Posthog(\n    "${key}",\n    host="${host}",\n)\nposthog.capture("Signup", distinct_id="u1")`),
      block("Segment, in pages", `AnalyticsBrowser.load({\n  writeKey: "${key}",\n  cdnURL: "${host}",\n})`), block("Segment, in Python", `import segment.analytics as analytics\n\nanalytics.write_key = (\n    "${key}"\n)\nanalytics.host = "${host}"\nanalytics.track("u1", "Signup", {"plan": "pro"})`),
      block("By hand", `curl ${host}/capture/ \\\n  -H 'Content-Type: application/json' \\\n  -d '{"event": "Signup", "distinct_id": "u1",\n    "api_key": "${key}"}'`), block("The JSON API", `curl ${host}/api/v1/track/Signup/count\n\n# every path:\n# ${host}/api/openapi.json`)));
}
