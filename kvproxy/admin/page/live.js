"use strict";
// Polls /admin/live and draws it. Text from outside goes in as text, never as markup.
const EVERY_MS = 2000, POINTS = 150, SHOWN = 30, NAME = 28;
const $ = (id) => document.getElementById(id);
const key = () => sessionStorage.getItem("kvproxy-key");
const short = (n) => n == null ? "–" : n >= 1e6 ? (n / 1e6).toFixed(1) + "M" : n >= 1e4 ? Math.round(n / 1e3) + "k" : String(Math.round(n));
const seconds = (s) => s == null ? "–" : s < 10 ? s.toFixed(2) + " s" : s < 90 ? s.toFixed(0) + " s" : s < 5400 ? (s / 60).toFixed(0) + " min" : (s / 3600).toFixed(1) + " h";
const share = (a, b) => b > 0 ? (100 * a / b).toFixed(1) + " %" : "–";
function make(tag, text, cls) {
  const made = document.createElement(tag);
  if (text != null) made.textContent = text;
  if (cls) made.className = cls;
  return made;
}
async function ask(path, options) {
  const headers = key() ? {authorization: "Bearer " + key()} : {};
  return fetch(path, {cache: "no-store", ...options, headers});
}
const history = {at: [], reported: [], predicted: [], p50: [], p95: [], flight: [], held: []};
const charts = [];
function chart(id, names, format) {
  const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const axis = {stroke: style("--soft"), grid: {stroke: style("--line"), width: 1}, ticks: {show: false}, font: "11px system-ui, sans-serif"};
  const box = $(id);
  const plot = new uPlot({
    width: box.clientWidth || 300, height: 130, legend: {show: false}, cursor: {show: false},
    scales: {y: {range: (u, lo, hi) => [0, hi > 0 ? hi * 1.15 : 1]}},
    axes: [{...axis, size: 24, space: 70, values: (u, v) => v.map((at) => new Date(at * 1000).toTimeString().slice(0, 8))}, {...axis, size: 52, values: (u, v) => v.map(format)}],
    series: [{}, ...names.map((n, i) => ({stroke: style(i ? "--c2" : "--c1"), width: 2, spanGaps: true, points: {size: 4}}))],
  }, [history.at, ...names.map((n) => history[n])], box);
  charts.push({plot, names, box});
}
function drawCharts() {
  for (const c of charts) { c.plot.destroy(); }
  charts.length = 0;
  chart("hits", ["reported", "predicted"], (v) => Math.round(v * 100) + " %");
  chart("ttft", ["p50", "p95"], (v) => v + " s");
  chart("load", ["flight", "held"], (v) => String(v));
}
let before = null;
function remember(s) {
  const t = s.totals, last = before || t, prompt = t.prompt_tokens - last.prompt_tokens;
  before = t;
  history.at.push(s.at);
  history.reported.push(prompt > 0 ? (t.reported_tokens - last.reported_tokens) / prompt : null);
  history.predicted.push(prompt > 0 ? (t.predicted_tokens - last.predicted_tokens) / prompt : null);
  history.p50.push(s.ttft.p50_s); history.p95.push(s.ttft.p95_s);
  history.flight.push(s.replicas.reduce((n, r) => n + (r.in_flight || 0), 0));
  history.held.push(s.queue_length);
  for (const list of Object.values(history)) if (list.length > POINTS) list.shift();
  for (const c of charts) c.plot.setData([history.at, ...c.names.map((n) => history[n])]);
}
function tiles(s) {
  const t = s.totals, ready = s.replicas.filter((r) => r.health === "ready").length;
  const shown = [
    [share(t.reported_tokens, t.prompt_tokens), "hit rate, reported"],
    [share(t.predicted_tokens, t.prompt_tokens), "hit rate, predicted"],
    [seconds(s.ttft.p50_s), "first token, median"],
    [seconds(s.ttft.p95_s), "first token, p95"],
    [short(s.queue_length), "held back now"],
    [ready + " / " + s.replicas.length, "replicas ready"],
    [short(t.requests), "requests" + [[t.failed, "failed"], [t.refused, "refused"]].map(([n, how]) => n ? ", " + short(n) + " " + how : "").join("")],
  ];
  $("tiles").replaceChildren(...shown.map(([value, name]) => {
    const tile = make("div", null, "tile");
    tile.append(make("b", value), make("span", name));
    return tile;
  }));
}
function fill(name, held, of, cls) {
  const row = make("div", null, "fill"), bar = make("progress", null, cls);
  bar.max = of || 1; bar.value = held;
  bar.setAttribute("aria-label", name);
  row.append(make("span", name), bar, make("span", short(held) + " / " + short(of)));
  return row;
}
async function act(path, body, what) {
  if (what && !confirm(what)) return;
  const answer = await ask(path, {method: "POST", body: body ? JSON.stringify(body) : undefined});
  if (!answer.ok) {
    const told = await answer.json().catch(() => ({}));
    alert((told.error && told.error.message) || "refused: " + answer.status);
  }
  look();
}
function replica(r) {
  const card = make("article", null, "replica"), head = make("h3", r.id);
  const bad = {ejected: "bad", gone: "bad"}[r.health] || (r.health === "ready" ? "" : "warn");
  head.append(make("span", (r.leaving ? "leaving, " : "") + (r.health || "?"), "badge " + bad));
  const list = make("dl");
  const rows = [["in flight", short(r.in_flight)], ["conversations", short(r.sessions)], ["prefill owed", seconds(r.queue_s)],
    ["prefill rate", short(r.prefill_tok_s) + "/s"], ["engine runs", short(r.running)], ["engine waits", short(r.waiting)],
    ["evicted", short(r.evicted_tokens)], ["KV events", r.events ? "heard" : "none"], ["pinned", short(r.pinned)]];
  for (const [name, value] of rows) list.append(make("dt", name), make("dd", value));
  card.append(head);
  if (r.trouble) card.append(make("p", r.trouble, "empty"));
  card.append(fill("HBM", r.held_tokens, r.hbm_tokens));
  if (r.dram_tokens) card.append(fill("DRAM", r.dram_held_tokens, r.dram_tokens, "dram"));
  card.append(list);
  const draining = r.health === "draining", verb = draining ? "undrain" : "drain";
  const button = doing(draining ? "Undrain" : "Drain", "drain " + r.id, () => act("replicas/" + encodeURIComponent(r.id) + "/" + verb, null, (draining ? "Give new work to " : "Give no new work to ") + r.id + "?"));
  card.append(button);
  return card;
}
// What is drawn again keeps its focus: buttons are told apart by what they do.
function again(box, draw) {
  const had = box.contains(document.activeElement) ? document.activeElement.dataset.does : null;
  draw();
  if (had) [...box.querySelectorAll("button")].find((b) => b.dataset.does === had)?.focus();
}
function doing(text, does, action) {
  const button = make("button", text);
  button.type = "button"; button.dataset.does = does;
  button.addEventListener("click", action);
  return button;
}
let replicas = [], pinning = null;
// In tables names go without the words that all of them begin and end with; cards have them whole.
let cut = [0, 0];
function shorten(ids) {
  cut = [0, 0];
  if (ids.length < 2 || Math.max(...ids.map((id) => id.length)) <= NAME) return;
  const common = (names, at) => { let n = 0; while (n < names[0].length && names.every((name) => name.at(at(n)) === names[0].at(at(n)))) n++; return n; };
  const first = ids[0], head = first.slice(0, common(ids, (n) => n)), end = common(ids, (n) => -1 - n);
  const tail = end ? first.slice(-end) : "";
  // Words that were cut in their middle stay.
  cut = [head.search(/[A-Za-z0-9]*$/), tail.length - Math.max(0, tail.search(/[^A-Za-z0-9]|$/))];
  if (ids.some((id) => id.length <= cut[0] + cut[1])) cut = [0, 0];
}
function named(id) {
  const known = replicas.some((r) => r.id === id), shown = known ? id.slice(cut[0], id.length - cut[1]) : id;
  const made = make("span", shown);
  if (shown !== id) made.title = id;
  return made;
}
function choose(c) {
  pinning = c.session;
  $("pin-what").textContent = c.session;
  $("pin-to").replaceChildren(...replicas.map((r) => {
    const option = make("option", r.id + (r.health === "ready" ? "" : " (" + r.health + ")"));
    option.value = r.id; option.selected = r.id === c.replica;
    return option;
  }));
  $("pin").returnValue = "";
  $("pin").showModal();
}
function pin(c) {
  const cell = make("span", null, "pin");
  if (!c.pinned) { cell.append(doing("Pin…", "pin " + c.session, () => choose(c))); return cell; }
  const whole = c.pinned_with_session ? " and all agents of its session" : "";
  const usable = replicas.some((r) => r.id === c.pinned && r.health === "ready");
  cell.append(make("span", "pinned " + (c.pinned === c.replica ? "here" : "to " + c.pinned) + (whole ? " with its session" : "") + (usable ? "" : ", which takes no work now"), "badge " + (usable ? "held" : "warn")));
  cell.append(doing("Unpin", "unpin " + c.session, () => act("replicas/" + encodeURIComponent(c.pinned) + "/unpin", {conversation: c.session}, "Let " + c.session + whole + " go where turns are cheapest?")));
  return cell;
}
function rows(id, list, empty) {
  const body = $(id).tBodies[0], columns = $(id).tHead.rows[0].cells.length;
  if (!list.length) {
    const row = make("tr"), cell = make("td", empty, "empty");
    cell.colSpan = columns; row.append(cell); body.replaceChildren(row);
    return;
  }
  body.replaceChildren(...list.map((cells) => {
    const row = make("tr");
    for (const cell of cells) { const made = make("td"); made.append(cell); row.append(made); }
    return row;
  }));
}
function terms(found) {
  return Object.entries(found).filter(([, v]) => Math.abs(v) >= 0.0005).map(([k, v]) => k.replace(/_s$/, "") + " " + v.toFixed(3)).join(" + ") || "0";
}
function show(s) {
  tiles(s);
  const advice = $("advice");
  advice.textContent = s.outage || s.regime.advice;
  advice.className = "advice " + (s.outage ? "bad" : {dram_pays: "warn", watch_evictions: "warn", add_capacity: "bad"}[s.regime.regime] || "");
  // Those that are not well first: among many nobody would see them.
  replicas = [...s.replicas].sort((a, b) => (a.health === "ready") - (b.health === "ready"));
  shorten(replicas.map((r) => r.id));
  again($("replicas"), () => $("replicas").replaceChildren(...replicas.map(replica)));
  const lost = Object.entries(s.totals.lost_tokens).filter(([, n]) => n > 0).sort((a, b) => b[1] - a[1]);
  const most = lost.length ? lost[0][1] : 1;
  $("breaks").replaceChildren(...(lost.length ? lost.map(([cause, n]) => {
    const row = make("div", null, "fill"), bar = make("progress", null, "dram");
    bar.max = most; bar.value = n; bar.setAttribute("aria-label", cause);
    row.append(make("span", cause.replaceAll("_", " ")), bar, make("span", short(n)));
    return row;
  }) : [make("p", "Nothing was lost.", "empty")]));
  rows("decisions", s.decisions.slice(0, SHOWN).map((d) => [new Date(d.at * 1000).toLocaleTimeString(), named(d.replica), short(d.prompt_tokens),
    short(d.predicted_cached_tokens), short(d.cached_tokens), seconds(d.ttft_s), terms(d.terms), d.source + ", " + d.evidence.replace("header:", "")]),
  "None since this page was opened.");
  const pinned = s.sessions.filter((c) => c.pinned).length;
  $("count").textContent = s.session_count + " remembered, " + (pinned ? pinned + " pinned and " : "") + "the latest " + (s.sessions.length - pinned);
  again($("sessions"), () => rows("sessions", s.sessions.map((c) => [c.session, c.replica ? named(c.replica) : "–", pin(c), short(c.tokens), seconds(c.idle_s)]), "None yet."));
  remember(s);
}
async function look() {
  const status = $("status");
  try {
    const answer = await ask("live");
    $("key").hidden = answer.status !== 401 && answer.status !== 403;
    if (!answer.ok) throw new Error($("key").hidden ? "answered " + answer.status : "an admin key is needed");
    const state = await answer.json();
    show(state);
    status.className = "";
    status.textContent = state.policy + ", " + new Date(state.at * 1000).toLocaleTimeString();
    document.body.dataset.ready = "1";
  } catch (error) {
    status.className = "lost";
    status.textContent = error.message;
  }
}
$("key").addEventListener("click", () => $("ask").showModal());
$("ask").addEventListener("close", () => {
  if ($("ask").returnValue === "ok" && $("secret").value) sessionStorage.setItem("kvproxy-key", $("secret").value);
  $("secret").value = "";
  look();
});
$("pin").addEventListener("close", () => {
  if ($("pin").returnValue === "ok") act("replicas/" + encodeURIComponent($("pin-to").value) + "/pin", {conversation: pinning});
});
drawCharts();
addEventListener("resize", () => { for (const c of charts) c.plot.setSize({width: c.box.clientWidth, height: 130}); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawCharts);
look();
setInterval(() => { if (!document.hidden) look(); }, EVERY_MS);
