// Pages that ask: events, metrics, funnels, cohorts. What is asked stands in the address, to be sent and kept.

import { api, bar, base, bucket, card, chance, change, column, day, elapsed, empty, fill, given, givenList, h, into, keep, live, moment, number, path, percent, pick, RANGES, say, select, table, word } from "./core.js";
import { chart, parts, split } from "./chart.js";

const UNITS = [["", "no interval"], "hour", "day", "week", "month", "quarter", "year"];
const OPERATORS = [["eq", "is"], ["ne", "is not"], ["gt", ">"], ["gte", "≥"], ["lt", "<"], ["lte", "≤"], ["contains", "contains"], ["startswith", "begins with"], ["exists", "is set"]];
const NEEDED = ["sum", "avg", "min", "max", "median", "percentile", "stddev"];

/** The value a person types: a number and true or false as such, "…" as text. */
function typed(text) {
  if (/^".*"$/.test(text)) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  return text.trim() !== "" && !Number.isNaN(Number(text)) ? Number(text) : text;
}
const shown = (value) => (typeof value === "string" && value !== "" && typed(value) !== value ? `"${value}"` : String(value));

const learned = new Map();
/** The properties that events of a name have. */
function propertiesOf(name) {
  if (!learned.has(name)) learned.set(name, api(path("track", name, "schema")).then((found) => Object.keys(found.result.properties), () => []));
  return learned.get(name);
}
/** A field for a property's name, which proposes those of an event that may change. */
function propertyField(name, value, placeholder, changed) {
  const id = `known-${Math.random().toString(36).slice(2)}`, list = h("datalist", { id });
  const field = h("input", { value, list: id, placeholder, onchange: changed, onfocus: async () => fill(list, (await propertiesOf(name())).map((one) => h("option", { value: one }))) });
  return { field, place: h("span.known", {}, field, list) };
}

/** Rows of property, operator and value; gives {place, add, where()}. */
function filters(event, start, changed) {
  const place = h("div.filters");
  let rows = [];
  const add = (one = { property: "", operator: "eq", value: "" }) => {
    const { field: name, place: known } = propertyField(event, one.property, "property", changed);
    name.setAttribute("aria-label", "Property");
    const operator = select("Condition", OPERATORS, one.operator, changed).control;
    const value = h("input", { value: shown(one.value ?? ""), "aria-label": "Value", placeholder: "value", onchange: changed });
    const row = { read: () => ({ property: name.value, operator: operator.value, value: typed(value.value) }) };
    row.place = h("div", {}, h("span.faint.small", {}, "where"), known, operator, value,
      h("button.plain", { type: "button", "aria-label": "Remove this condition", onclick: () => { rows = rows.filter((other) => other !== row); row.place.remove(); changed(); } }, "Remove"));
    rows.push(row);
    place.append(row.place);
  };
  start.forEach(add);
  const read = () => rows.map((row) => row.read()).filter((one) => one.property && (one.operator === "exists" || one.value !== ""));
  const where = () => {
    const found = {};
    for (const { property, operator, value } of read()) (found[property] ??= {})[operator] = operator === "exists" ? true : value;
    return Object.keys(found).length ? found : undefined;
  };
  return { place, add, read, where };
}

/** An interval that makes sense of the range: hours of today, days of more. */
function fitted(unit, since) {
  if (since === "today" && unit.control.value) unit.control.value = "hour";
  else if (since !== "today" && unit.control.value === "hour") unit.control.value = "day";
}

/** What a number by groups looks like: a chart and a table, one above the other. */
function answer(place, found, unit, name, previous, since, now) {
  if (!unit && !found.by) return fill(place, card(null, null, h("div.number", { "data-total": found.result?.current ?? found.result ?? "" }, number(found.result?.current ?? found.result)), found.result?.change !== undefined ? change(found.result) : null));
  if (!found.result.length) return fill(place, card(null, null, empty("Nothing matches. Try a longer time range, or fewer conditions.")));
  if (unit) {
    const all = split(found.result), { count, partial } = parts(all.points, unit, since, now);
    const points = all.points.slice(0, count), left = all.left;
    const series = all.series.map((one) => ({ name: one.name || name, values: one.values.slice(0, count) }));
    const head = previous ? h("div.top", {}, h("div", {}, h("div.number", { "data-total": previous.current ?? "" }, number(previous.current)), change(previous))) : null;
    return fill(place, card(null, null, head, chart(points, series, { unit, bars: series.length === 1, partial, label: `${name} by ${unit}` }), left ? h("p.faint.small", {}, `${left} smaller groups are not drawn.`) : null, found.truncated ? h("p.faint.small", {}, "Only the first 1,000 rows are shown.") : null));
  }
  const most = Math.max(...found.result.map((row) => Math.abs(row.value ?? 0)), 1e-9), shown = column(found.result.map((row) => row.value));
  const rows = found.result.slice(0, 200).map((row) => [...row.key.map(word), shown(row.value), bar((row.value ?? 0) / most)]);
  return fill(place, card(null, null, table(name, [...found.by, { text: name, n: true }, ""], rows), found.truncated || found.result.length > 200 ? h("p.faint.small", {}, "The largest groups are shown.") : null));
}

export async function events(root) {
  const names = (await api("/track")).result;
  if (!names.length) return fill(root, card(null, null, empty(["No events yet. ", h("a", { href: `${base}/connect` }, "Connect an SDK"), ", or track one:"], "biz.track.Signup(user_id=\"u1\", plan=\"pro\")")));
  const out = h("div.stack", { "aria-live": "off" }), list = h("div"), shape = h("div");
  const event = select("Event", [["*", "All events"], ...names], given("event", names[0]), async () => { await learn(); run(); });
  const operation = select("Number", [["count", "count"], ["unique", "users"], ...NEEDED.map((one) => [one, one === "percentile" ? "95th percentile" : one])], given("number", "count"), run);
  const property = select("of", [], "", run), group = select("Split by", [], "", run);
  const unit = select("Every", UNITS, given("every", "day"), run);
  const narrow = filters(() => event.control.value, givenList("where"), run);
  let since = given("since", "28d");
  const range = pick("Time range", RANGES, since, (value) => { since = value; fitted(unit, value); run(); });
  let stream = null;

  async function learn() {
    const name = event.control.value;
    const found = name === "*" ? null : (await api(path("track", name, "schema"))).result;
    const properties = found ? Object.keys(found.properties) : [];
    const numbers = found ? properties.filter((one) => found.properties[one].types.some((type) => type === "int" || type === "double")) : [];
    const choices = (all, empty_, chosen) => [["", empty_], ...all].map((one) => h("option", { value: Array.isArray(one) ? one[0] : one, selected: (Array.isArray(one) ? one[0] : one) === chosen }, Array.isArray(one) ? one[1] : one));
    fill(property.control, choices(numbers.length ? numbers : properties, "property", given("of", numbers[0])));
    fill(group.control, choices([...(name === "*" ? ["event"] : []), ...properties, "user"], "nothing", given("by")));
    fill(shape, found ? card("Properties seen", null, table("Properties", ["property", "types", "first seen", "last seen"], Object.values(found.properties).map((one) => [one.name, one.types.join(", "), day(one.first_seen), day(one.last_seen)]))) : null);
  }

  async function run() {
    const name = event.control.value, kind = operation.control.value, needs = NEEDED.includes(kind);
    property.hidden = !needs;
    const every = unit.control.value, by = group.control.value;
    keep({ event: name, number: kind, of: needs ? property.control.value : undefined, by: by || undefined, every, since, where: narrow.read() });
    const asked = { where: narrow.where(), since, property: needs ? property.control.value : undefined, p: kind === "percentile" ? 95 : undefined };
    const title = `${name === "*" ? "All events" : name}: ${kind}${needs ? ` of ${property.control.value}` : ""}`;
    await into(out, async () => {
      if (needs && !asked.property) return fill(out, card(null, null, empty("This event has no property to take that of.")));
      const [{ result: { now } }, found, previous] = await Promise.all([
        api("/info"),
        api(path("track", name, kind), { ...asked, by: [every, by].filter(Boolean), vs: !every && !by && since ? "prev" : undefined }),
        every && !by ? api(path("track", name, kind), { ...asked, vs: since ? "prev" : undefined }).then((one) => (since ? one.result : { current: one.result, change: null })) : null,
      ]);
      answer(out, found, every, title, previous, since, now);
    });
    await newest(name, asked.where);
  }

  const only = (user) => `${base}/events?event=*&since=&where=${encodeURIComponent(JSON.stringify([{ property: "user", operator: "eq", value: user }]))}`;
  const line = (one) => h("tr", { role: "row" }, h("td.nowrap.faint", { role: "cell" }, moment(one.timestamp)), h("td", { role: "cell" }, h("b", {}, one.type)), h("td", { role: "cell" }, one.user === null ? "–" : h("a", { href: only(one.user), title: "All that this user did" }, one.user)), h("td.wide", { role: "cell" }, h("details", {}, h("summary", {}, Object.entries(one.data).slice(0, 4).map(([name, value]) => `${name}: ${word(value)}`).join("  ·  ").slice(0, 160) || "no properties"), h("pre", {}, JSON.stringify(one, null, 2)))));

  async function newest(name, where) {
    await into(list, async () => {
      const after = (await api("/info")).result.position; // from there on the stream tells, so that nothing is missed between
      const page = await api(path("track", name, "events"), { where, since, limit: 25 });
      const known = new Set(page.result.map((one) => one.position));
      stream?.close();
      const rows = h("tbody", { role: "rowgroup" }, page.result.map(line));
      let cursor = page.cursor;
      const more = h("button", { type: "button", hidden: !cursor, onclick: async () => {
        const next = await api(path("track", name, "events"), { where, since, limit: 100, cursor });
        rows.append(...next.result.map(line)); cursor = next.cursor; more.hidden = !cursor;
      } }, "Show more");
      if (!where) stream = live({ events: name, after }, { record: (one) => { if (known.has(one.position)) return; const made = line(one); made.classList.add("flash"); rows.prepend(made); if (rows.childElementCount > 300) rows.lastElementChild.remove(); } });
      fill(list, card("Newest", stream, h("div.scroll", { tabindex: "0", role: "region", "aria-label": "Newest events" }, h("table.lines", { role: "table" }, h("caption.unseen", {}, "Newest events"), h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, ["time", "event", "user", "properties"].map((head) => h("th", { scope: "col", role: "columnheader" }, head)))), rows)), more));
    });
  }

  fill(root, card(null, null, h("div.form", {}, event, operation, property, group, unit, range, h("button", { type: "button", onclick: () => narrow.add() }, "Add condition")), narrow.place), out, list, shape);
  await learn();
  await run();
}

export async function metrics(root) {
  const found = (await api("/measure")).result;
  if (!found.length) return fill(root, card(null, null, empty("No metrics yet. Measure one:", "biz.measure.revenue(99, plan=\"pro\")")));
  const kinds = new Map(found.map((one) => [one.name, one.kind]));
  const usual = (name) => (kinds.get(name) === "gauge" ? "avg" : "sum");
  const out = h("div.stack"), facts = h("div.halves");
  const metric = select("Metric", found.map((one) => one.name), given("metric", found[0].name), async () => { operation.control.value = usual(metric.control.value); await learn(); run(); });
  const operation = select("Number", ["sum", "avg", "min", "max", "median", "count", "stddev", "last", ["percentile", "95th percentile"]], given("number", usual(given("metric", found[0].name))), run);
  const group = select("Split by", [], "", run), unit = select("Every", UNITS.slice(1), given("every", "day"), run);
  let since = given("since", "28d");
  const range = pick("Time range", RANGES, since, (value) => { since = value; fitted(unit, value); run(); });

  async function learn() {
    const seen = (await api(path("measure", metric.control.value, "schema"))).result;
    fill(group.control, [["", "nothing"], ...Object.keys(seen.properties).map((one) => [one, one])].map(([value, text]) => h("option", { value, selected: value === given("by") }, text)));
  }

  async function run() {
    const name = metric.control.value, kind = operation.control.value, every = unit.control.value, by = group.control.value;
    keep({ metric: name, number: kind, by: by || undefined, every, since });
    const asked = { since, p: kind === "percentile" ? 95 : undefined };
    await into(out, async () => {
      const [{ result: { now } }, groups, total] = await Promise.all([
        api("/info"),
        api(path("measure", name, kind), { ...asked, by: [every, by].filter(Boolean) }),
        by ? null : api(path("measure", name, kind), { ...asked, vs: since ? "prev" : undefined }),
      ]);
      answer(out, groups, every, `${name}: ${kind}`, total && (since ? total.result : { current: total.result, change: null }), since, now);
    });
    await into(facts, async () => {
      const [trend, odd, current] = await Promise.all([
        api(path("measure", name, "trend"), { since }).catch((error) => ({ result: null, said: error.message })),
        api(path("measure", name, "anomalies"), { since }).catch((error) => ({ result: [], said: error.message })),
        api(path("measure", name, "current")),
      ]);
      const way = { up: "▲ rising", down: "▼ falling", flat: "flat" };
      fill(facts,
        card("Trend", null, trend.result && trend.result.slope !== null ? [h("div.number", {}, way[trend.result.direction]), h("p.faint", {}, `${number(trend.result.slope)} per day, r² ${number(trend.result.r2)}, p ${chance(trend.result.p_value)}`)] : h("p.faint", {}, trend.said ?? "Too few samples."), h("p.small.faint", {}, `Latest value: ${number(current.result)}`)),
        card("Days that stand out", null, odd.result.length ? table("Anomalies", ["day", { text: "value", n: true }, { text: "expected", n: true }, { text: "usual range", n: true }], odd.result.slice(-8).reverse().map((one) => [bucket(one.time, "day"), number(one.value), number(one.expected), `${number(one.low)} … ${number(one.high)}`])) : h("p.faint", {}, odd.said ?? "None in this time range.")));
    });
  }
  fill(root, card(null, null, h("div.form", {}, metric, operation, group, unit, range)), out, facts);
  await learn();
  await run();
}

export async function funnels(root) {
  const names = (await api("/track")).result;
  if (!names.length) return fill(root, card(null, null, empty(["A funnel needs events. ", h("a", { href: `${base}/connect` }, "Connect an SDK"), ", or track some:"], "biz.track.PageView(user_id=\"u1\", path=\"/pricing\")\nbiz.track.Signup(user_id=\"u1\")")));
  const list = h("div.filters"), out = h("div.stack"), who = h("div");
  let steps = [];
  const add = (one) => {
    const choice = select("Event of this step", names, one.event, run).control;
    const narrow = filters(() => choice.value, one.where ?? [], run);
    const step = { read: () => ({ event: choice.value, where: narrow.read() }), where: narrow.where, event: () => choice.value };
    const number_ = h("b.small");
    step.place = h("div", {}, number_, choice, h("button.plain", { type: "button", onclick: () => narrow.add({ property: "", operator: "eq", value: "" }) }, "Condition"),
      h("button.plain", { type: "button", "aria-label": "Remove this step", onclick: () => { if (steps.length > 1) { steps = steps.filter((other) => other !== step); step.place.remove(); count(); run(); } } }, "Remove"), narrow.place);
    step.label = number_;
    steps.push(step);
    list.append(step.place);
    count();
  };
  const count = () => steps.forEach((step, n) => { step.label.textContent = `Step ${n + 1}`; });
  const within = select("Within", [["", "any time"], ["1h", "1 hour"], ["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"]], given("within", "30d"), run);
  const order = select("Order", [["ordered", "in order"], ["strict", "strictly in order"], ["unordered", "any order"]], given("order", "ordered"), run);
  const { field: by, place: byPlace } = propertyField(() => steps[0].event(), given("by"), "property", run);
  let since = given("since", "");
  const range = pick("Time range", RANGES, since, (value) => { since = value; run(); });

  function asked() {
    return { steps: steps.map((step) => (step.where() ? { event: step.event(), where: step.where() } : step.event())), within: within.control.value || undefined, order: order.control.value, since: since || undefined };
  }

  async function run() {
    keep({ steps: steps.map((step) => step.read()), within: within.control.value, order: order.control.value, since: since || undefined, by: by.value || undefined });
    fill(who);
    await into(out, async () => {
      const [found, split_] = await Promise.all([api("/funnel", {}, asked()), by.value ? api("/funnel", {}, { ...asked(), by: [by.value] }) : null]);
      const funnel = found.result;
      const first = funnel.steps[0].count || 1;
      const line = (step, n) => h("li", {},
        h("div.line", {}, h("h3", {}, step.name), h("span", {}, h("b", { "data-count": step.count }, number(step.count)), h("span.faint", {}, ` users, ${percent(step.total_rate)}`))),
        bar(step.count / first, "", `${percent(step.total_rate)} of step 1`),
        h("div.line.small.faint.facts", {}, n ? [h("span", {}, `${percent(step.rate)} of the step before${step.in_progress ? `, ${number(step.in_progress)} still on the way` : ""}`), h("span", {}, `median ${elapsed(step.median_time)}`), h("button.plain", { type: "button", onclick: () => users(n + 1, "dropped") }, "Who stopped before")] : [h("span", {}, "all who begin"), h("button.plain", { type: "button", onclick: () => users(1, "users") }, "Who began")]));
      fill(out, card(null, null, h("div.top", {}, h("div", {}, h("div.number", { "data-conversion": funnel.conversion }, percent(funnel.conversion)), h("p.faint", {}, "of those who begin reach the last step"))), h("ol.steps", {}, funnel.steps.map(line))),
        ...funnel.warnings.map((warning) => h("p.notice", {}, warning)),
        split_ ? card(`By ${by.value}`, null, table("By group", [by.value, ...funnel.steps.map((step) => ({ text: step.name, n: true })), { text: "conversion", n: true }], split_.result.slice(0, 50).map((row) => [row.key.map(word).join(" · "), ...row.value.steps.map((step) => number(step.count)), percent(row.value.conversion)]))) : null);
    });
  }

  async function users(step, which) {
    await into(who, async () => {
      const found = await api("/funnel/users", {}, { ...asked(), step, which, limit: 200 });
      fill(who, card(which === "users" ? `Who reached step ${step}` : `Who reached step 1, but not step ${step}`, h("span.faint.small", {}, found.truncated ? "the first 200" : `${found.result.length} users`), h("p", { style: { "column-width": "150px" } }, found.result.map((user) => h("span", { style: { display: "block" } }, user)))));
      who.scrollIntoView({ block: "nearest" });
      say(`${found.result.length} users`);
    });
  }

  const start = givenList("steps");
  (start.length ? start : [names[0], names[1] ?? names[0]].map((event) => ({ event }))).forEach(add);
  fill(root, card(null, null, h("div.form", {}, within, order, h("label", {}, "Split by", byPlace), range, h("button", { type: "button", onclick: () => { add({ event: names[0] }); run(); } }, "Add step")), list), out, who);
  await run();
}

export async function cohorts(root) {
  const names = (await api("/track")).result;
  if (!names.length) return fill(root, card(null, null, empty(["Cohorts need events of users. ", h("a", { href: `${base}/connect` }, "Connect an SDK"), ", or track some:"], "biz.track.Signup(user_id=\"u1\")\nbiz.track.Purchase(user_id=\"u1\", amount=30)")));
  const out = h("div.stack");
  const anchor = select("Users who did", names, given("anchor", names[0]), run);
  const activity = select("came back to do", [["*", "anything"], ...names], given("activity", names[0]), run);
  const unit = select("by", ["day", "week", "month", "quarter", "year"], given("by", "month"), run);
  const periods = h("input", { type: "number", min: "1", max: "60", value: given("periods", "12"), onchange: run });
  const { field: worth, place: worthPlace } = propertyField(() => (activity.control.value === "*" ? anchor.control.value : activity.control.value), given("sum"), "property, for its sum", run);
  let kind = given("show", "retention"), since = given("since", "");
  const what = pick("Show", [["retention", "Share"], ["counts", "Users"], ["values", "Value per user"]], kind, (value) => { kind = value; run(); });
  const range = pick("Time range", RANGES, since, (value) => { since = value; run(); });

  async function run() {
    const many = Math.max(1, Math.min(60, Number(periods.value) || 12));
    keep({ anchor: anchor.control.value, activity: activity.control.value, by: unit.control.value, periods: many, sum: worth.value || undefined, show: kind, since: since || undefined });
    await into(out, async () => {
      const found = (await api("/cohort", {}, { anchor: anchor.control.value, activity: activity.control.value, granularity: unit.control.value, periods: many, sum: worth.value || undefined, since: since || undefined })).result.cohorts;
      if (!found.length) return fill(out, card(null, null, empty("Nobody did that in this time range.")));
      if (kind === "values" && !worth.value) return fill(out, card(null, null, empty("Name the property whose sum per user is wanted, for example amount.")));
      const of = (cohort, n) => (kind === "retention" ? cohort.retention[n] : kind === "counts" ? cohort.counts[n] : cohort.values?.[n] === null || cohort.values === null ? null : cohort.values[n] / cohort.size);
      const text = kind === "retention" ? (value) => `${Math.round(value * 100)} %` : number;
      const all = found.flatMap((cohort) => cohort.counts.map((_, n) => of(cohort, n)).filter((value, n) => value !== null && (n || kind === "values")));
      const most = Math.max(...all, 1e-9);
      const rows = found.map((cohort) => h("tr", {}, h("th", { scope: "row" }, bucket(cohort.start, unit.control.value)), h("td.n", {}, number(cohort.size)), cohort.counts.map((_, n) => {
        const value = of(cohort, n);
        if (value === null || value === undefined) return h("td", {});
        const share = Math.min(1, value / most);
        return h("td.cell", { style: { "--v": (0.04 + share * 0.46).toFixed(3) }, title: `${bucket(cohort.start, unit.control.value)}, ${unit.control.value} ${n}: ${number(cohort.counts[n])} of ${number(cohort.size)} users` }, text(value));
      })));
      const mean = Array.from({ length: many }, (_, n) => {
        const known = found.filter((cohort) => cohort.counts[n] !== null);
        const size = known.reduce((sum, cohort) => sum + cohort.size, 0);
        return size ? known.reduce((sum, cohort) => sum + cohort.counts[n], 0) / size : null;
      });
      const line = h("tr", {}, h("th", { scope: "row" }, "All"), h("td.n", {}, number(found.reduce((sum, cohort) => sum + cohort.size, 0))), mean.map((value) => h("td.mean", {}, value === null ? "" : `${Math.round(value * 100)} %`)));
      const heads = ["cohort", { text: "users", n: true }, ...Array.from({ length: many }, (_, n) => ({ text: `+${n}`, n: true }))];
      fill(out, card(`${anchor.control.value}, then ${activity.control.value === "*" ? "anything" : activity.control.value}`, h("span.faint.small", {}, `+1 is the ${unit.control.value} after the first`), table("Cohorts", heads, kind === "retention" ? [line, ...rows] : rows, { kind: "heat" })));
    });
  }
  fill(root, card(null, null, h("div.form", {}, anchor, activity, unit, h("label", {}, "Periods", periods), h("label", {}, "Value", worthPlace), what, range)), out);
  await run();
}
