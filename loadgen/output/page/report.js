"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const { record, series } = data;
const { summary, settings, ramp } = record;
const $ = (id) => document.getElementById(id);
const make = (tag, text, className) => {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
};
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const none = "–";
const seconds = (v) => v == null ? none : v < 0.1 ? (v * 1e3).toFixed(1) + " ms"
  : v < 10 ? v.toFixed(2) + " s" : v.toFixed(1) + " s";
const percent = (v) => v == null ? none : (v * 100).toFixed(1) + " %";
const count = (v) => v == null ? none : v >= 1e6 ? +(v / 1e6).toFixed(2) + "M"
  : v >= 1e4 ? +(v / 1e3).toFixed(1) + "k" : String(+v.toFixed(2));
const clock = (s) => s >= 7200 ? +(s / 3600).toFixed(1) + " h"
  : s >= 300 ? +(s / 60).toFixed(1) + " min" : +s.toFixed(1) + " s";

function table(element, head, rows) {
  if (head) {
    const row = element.createTHead().insertRow();
    for (const text of head) row.append(make("th", text));
  }
  const body = element.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) {
      const [text, className] = Array.isArray(cell) ? cell : [cell];
      row.append(make("td", text, className));
    }
  }
}

// A quantile of too few values is but the largest of them, or next to it.
const few = (n) => n >= 100 ? "" : n >= 20 ? ", few for p99" : ", few for p95";

function top() {
  const scale = settings.timing.time_scale;
  $("what").textContent = `${settings.model} at ${settings.url} · ${settings.traces} traces, seed `
    + `${settings.seed} · ${clock(summary.duration_s)}`
    + (scale === 1 ? "" : `, ${scale} times as fast as life; latencies in engine seconds`)
    + ` · ended: ${record.ended_because}`;
  const say = [];
  if (!summary.client.valid) say.push(`INVALID: this client was late itself (p99 ${seconds(summary.client.lag_p99_s)}, `
    + `allowed ${seconds(summary.client.lag_allowed_s)}).`);
  if (summary.silent.beyond_p95) say.push(`${summary.silent.beyond_p95} requests waited longer than TTFT p95 for a `
    + `first token that never came, up to ${seconds(summary.silent.max_s)}: no quantile has them.`);
  if (summary.last_error) say.push(`The last request that failed: ${summary.last_error}.`);
  for (const said of record.unread || []) say.push(`${said}.`);
  if (summary.hit_rate_beyond_bound) say.push("Engines hit more than this run could have left them: they had its text "
    + "from before (another --seed, or empty caches).");
  if (summary.warm_up) say.push(`${summary.warm_up.requests} requests of the first ${clock(summary.warm_up.s)} are in no figure.`);
  if (ramp && ramp.kind === "certify" && ramp.users) say.push(`${ramp.users} users certified: `
    + `${percent(ramp.attainment)} in time (95 % interval ${percent(ramp.attainment_low)} to `
    + `${percent(ramp.attainment_high)}) over ${clock(ramp.held_s)}.`);
  if (data.advice) say.push(data.advice.advice);
  $("verdict").textContent = say.join(" ");
  if (!summary.client.valid) $("verdict").classList.add("bad");
  else if (summary.silent.beyond_p95 || summary.hit_rate_beyond_bound || data.advice && data.advice.regime !== "hbm_enough") $("verdict").classList.add("warn");
  const tiles = [
    ["TTFT p95", seconds(summary.ttft_p95_s), `p50 ${seconds(summary.ttft_p50_s)}, p99 ${seconds(summary.ttft_p99_s)}, `
      + `of ${count(summary.ttft_count)}${few(summary.ttft_count)}`],
    ["hit rate", percent(summary.hit_rate_reported), `of ${percent(summary.hit_rate_bound)} possible`],
    ["time per token", seconds(summary.itl_p50_s), `p95 ${seconds(summary.itl_p95_s)}`],
    ["requests", count(summary.requests), `${summary.conversations} conversations`],
    ["failed", percent(summary.error_rate), Object.entries(summary.errors).map(([k, v]) => `${v} ${k}`).join(", ") || "none"],
  ];
  if (summary.slo) tiles.splice(1, 0, ["in time", percent(summary.slo.attainment), summary.slo.limits.join(", ")]);
  for (const [name, value, more] of tiles) {
    const tile = make("div", undefined, "tile");
    tile.append(make("span", name), make("b", value), make("span", more));
    $("tiles").append(tile);
  }
}

const plots = [];
function chart(title, text, x, lines, format, extra = {}) {
  if (!lines.some((line) => line.values.some((v) => v != null))) return;
  const card = make("figure", undefined, "chart");
  card.style.margin = 0;
  card.append(make("h3", title), make("p", text));
  const place = make("div");
  card.append(place);
  $("charts").append(card);
  const draw = () => {
    const axis = { stroke: color("--soft"), grid: { stroke: color("--line"), width: 1 },
      ticks: { stroke: color("--line"), width: 1 }, font: "12px system-ui, DejaVu Sans, sans-serif" };
    const hues = lines.map((line, i) => color(`--c${line.hue || i % 8 + 1}`));
    return new uPlot({
      width: place.clientWidth || 320, height: 230,
      scales: { x: { time: false }, y: { range: extra.range || ((u, low, high) => [0, high > 0 ? high * 1.08 : 1]) } },
      cursor: { points: { size: 6 }, sync: { key: "run" } },
      legend: { live: true },
      hooks: { draw: [marks] },
      axes: [{ ...axis, values: (u, ticks) => ticks.map(clock), space: 70 },
        { ...axis, values: (u, ticks) => ticks.map(format), size: 62 }],
      series: [{ label: "at", value: (u, v) => v == null ? none : clock(v) }].concat(lines.map((line, i) => ({
        label: line.label, stroke: hues[i], width: line.dash ? 1 : 1.75, dash: line.dash,
        fill: line.fill ? hues[i] + "55" : undefined, spanGaps: true, points: { show: x.length < 3 },
        paths: line.step ? uPlot.paths.stepped({ align: 1 }) : undefined,
        value: (u, v) => v == null ? none : format(v),
      }))),
    }, [x, ...lines.map((line) => line.values)], place);
  };
  plots.push({ draw, place, plot: null });
}
// A dashed line and a number where something was done to the fleet; the table says what.
function marks(u) {
  const { ctx } = u, { left, top, width, height } = u.bbox, ratio = devicePixelRatio || 1;
  ctx.save();
  ctx.strokeStyle = ctx.fillStyle = color("--bad");
  ctx.lineWidth = ratio;
  ctx.setLineDash([3 * ratio, 3 * ratio]);
  ctx.font = `${11 * ratio}px system-ui, DejaVu Sans, sans-serif`;
  ctx.textAlign = "left";
  data.events.forEach((event, i) => {
    const x = Math.round(u.valToPos(event.t, "x", true));
    if (x < left || x > left + width) return;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.fillText(String(i + 1), x + 3 * ratio, top + 10 * ratio);
  });
  ctx.restore();
}
const line = (label, values, more = {}) => ({ label, values, ...more });

function limit(metric) {
  const found = (summary.slo ? summary.slo.limits : []).find((l) => l.startsWith(metric + "="));
  if (!found) return [];
  const most = parseFloat(found.split("=")[1]);
  return [line("SLO", series.t.map(() => most), { dash: [6, 4], hue: 5 })];
}

function users() {
  if (!ramp) return [];
  return [line("users", series.t.map((t) => ramp.notes.filter((n) => n.at_s <= t).pop().users), { step: true })];
}

function charts() {
  const t = series.t;
  chart("Time to first token", "Of requests whose first token came in the period, from when they were due.", t,
    [line("p50", series.ttft_p50), line("p95", series.ttft_p95), line("p99", series.ttft_p99), ...limit("ttft_s")], seconds);
  chart("Time per output token", "After the first chunk.", t,
    [line("p50", series.itl_p50), line("p95", series.itl_p95), ...limit("itl_s")], seconds);
  chart("Users and requests", "Conversations that asked, and requests in flight at the end of the period.", t,
    [...users(), line("conversations", series.conversations, { hue: 2 }), line("in flight", series.in_flight, { hue: 3 })], count);
  chart("Hit rate", "Cached over prompt tokens: reported by engines, expected by the router, possible without limit.", t,
    [line("possible", series.hit_bound, { hue: 6, dash: [6, 4] }), line("reported", series.hit_cached, { hue: 1 }),
      ...(summary.hit_rate_predicted == null ? [] : [line("predicted", series.hit_predicted, { hue: 2 })])],
    (v) => Math.round(v * 100) + " %", { range: () => [0, 1] });
  const capacity = data.advice ? [line("HBM", t.map(() => data.advice.hbm_tokens), { dash: [6, 4], hue: 5 })] : [];
  chart("Working set", "Latest prompts of conversations that asked within the window, in tokens.", t,
    [line("15 min", series.working_set_15m), line("60 min", series.working_set_60m), ...capacity], count);
  chart("Throughput", "Requests that ended, a second.", t,
    [line("ended", series.requests_per_s), line("failed", series.failed_per_s, { hue: 5 })], count);
  const names = Object.keys(data.replicas);
  chart("Requests by replica", "First tokens in the period.", t,
    names.map((name) => line(name, data.replicas[name], { step: true })), count);
  const scraped = Object.entries(data.scraped);
  if (scraped.length) {
    const times = [...new Set(scraped.flatMap(([, s]) => s.t))].sort((a, b) => a - b);
    const on = (s, key) => { const at = new Map(s.t.map((v, i) => [v, s[key][i]])); return times.map((v) => at.get(v) ?? null); };
    chart("Load of replicas", "Requests running and waiting, as they said themselves.", times,
      scraped.map(([name, s]) => line(name, on(s, "busy"))), count);
    chart("KV cache in use", "By running requests.", times,
      scraped.map(([name, s]) => line(name, on(s, "kv_usage"))), (v) => Math.round(v * 100) + " %", { range: () => [0, 1] });
  }
  const tiers = data.tiers, bottom = tiers.computed, middle = bottom.map((v, i) => v + tiers.hbm[i]);
  chart("Where prompt tokens came from", "Tokens a second over all replicas: computed, from HBM, from DRAM, on top of one another.", tiers.t,
    [line("+ DRAM", middle.map((v, i) => v + tiers.dram[i]), { fill: true, hue: 4 }),
      line("+ HBM", middle, { fill: true, hue: 1 }), line("computed", bottom, { fill: true, hue: 2 })], count);
}

function tables() {
  if (data.events.length) {
    $("happened").hidden = false;
    table($("events"), ["no.", "at", "command", "status", "took", "said"], data.events.map((e, i) => [i + 1, clock(e.t),
      [e.command, "code"], [e.status == null ? "ended" : String(e.status), e.status === 0 ? "good" : "bad"], seconds(e.took_s), [e.said, "code"]]));
  }
  if (ramp && ramp.levels) {
    $("ramp").hidden = false;
    $("found").textContent = ramp.users ? `${ramp.users} users; ${ramp.not_users ?? "no number tried"} `
      + `failed. Asked: ${percent(ramp.attainment_asked)} within ${ramp.slo.join(", ")}.` : "Nothing was certified.";
    table($("levels"), ["users", "from", "to", "in time", "share", "95 % interval", "verdict"],
      ramp.levels.map((l) => [l.users + (l.held ? " (held)" : ""), clock(l.from_s), clock(l.to_s),
        `${l.good} of ${l.count}`, l.count ? percent(l.good / l.count) : none,
        `${percent(l.low)} – ${percent(l.high)}`, [l.verdict ?? "open", l.verdict ?? ""]]));
  }
  const rows = Object.entries(summary.replicas);
  if (rows.length) {
    $("fleet").hidden = false;
    const all = rows.reduce((sum, [, r]) => sum + r.requests, 0);
    table($("replicas"), ["replica", "requests", "share", "prompt tokens", "cached", "hit rate"],
      rows.map(([name, r]) => [name, count(r.requests), percent(r.requests / all), count(r.prompt_tokens),
        count(r.cached_tokens), percent(r.prompt_tokens && r.cached_tokens != null ? r.cached_tokens / r.prompt_tokens : null)]));
  }
  const client = summary.client, flat = { "client lag p99": seconds(client.lag_p99_s), "client lag allowed": seconds(client.lag_allowed_s),
    "client CPU": percent(client.cpu), "prompts exactly as recorded": percent(summary.fidelity.exact),
    "answers exactly as long as asked": percent(summary.answers.exact) };
  for (const [name, value] of Object.entries(settings))
    if (value != null) flat[name] = typeof value === "object" ? JSON.stringify(value) : String(value);
  table($("settings"), null, Object.entries(flat));
}

top();
charts();
tables();
// Drawn once all are laid out: a card alone in its grid is wider than it will be.
const redraw = () => { for (const one of plots) { one.plot?.destroy(); one.plot = one.draw(); } };
redraw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
let width = innerWidth;
addEventListener("resize", () => {
  if (innerWidth === width) return;
  width = innerWidth;
  for (const one of plots) one.plot.setSize({ width: one.place.clientWidth, height: 230 });
});
document.body.dataset.ready = String(plots.length);
})();
