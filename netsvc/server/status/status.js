// Shows what /status.json reports, once a second. A rate is the difference of two reports, divided by the difference of
// their uptimes. Texts of the server reach the page as text only.
"use strict";

// Milliseconds between two reports, the same while nobody sees the page, until a request is given up, and until the
// server counts as away: a full server may refuse one request.
const REFRESH = 1_000;
const REFRESH_HIDDEN = 30_000;
const TIMEOUT = 3_000;
const PATIENCE = 1_500;

// Seconds that a chart shows, and over which the latency of the store is averaged.
const CHARTED = 120;
const AVERAGED = 10;

// A certificate that ends sooner than this many seconds is marked.
const RENEW_BEFORE = 14 * 86_400;

// The pages themselves are a service, which does not count in the overview.
const PAGES = "metrics";

const EFFECTS = [
  ["refused", "Refused"],
  ["disconnected", "Disconnected"],
  ["unsent", "Not sent"],
  ["unreceived", "Not received"],
];
const SERVICE_LABELS = [
  "Service", "Open", "In all", "New", "Received", "Sent", "Replies", "Stalls", "Dropped lines", "Dropped datagrams",
];
const PROBE_LABELS = ["Target", "Address", "State", "Sent", "Lost", "Lost there", "Lost back", "Median", "p99"];
const CAUSE_LABELS = ["Cause", "Service", "Effect", "In all", "Now", "Meaning"];
const SVG = "http://www.w3.org/2000/svg";
const NONE = "–";
const ZERO = /^0( B)?(\/s)?$/;

const find = (id) => document.getElementById(id);

// Numbers as text

const integers = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

function count(number) {
  return integers.format(number);
}

function scaled(number) {
  if (number === 0 || number >= 100) return integers.format(number);
  return number < 0.1 ? "<0.1" : number.toFixed(1);
}

function rate(number) {
  return number === null ? NONE : `${scaled(number)}/s`;
}

function bytes(number) {
  if (number === null) return NONE;
  const units = ["B", "kB", "MB", "GB"];
  let unit = 0;
  for (; number >= 1_000 && unit < units.length - 1; unit += 1) number /= 1_000;
  return `${scaled(number)} ${units[unit]}/s`;
}

function milliseconds(seconds) {
  if (seconds === null) return NONE;
  return seconds < 1 ? `${scaled(1_000 * seconds)} ms` : `${scaled(seconds)} s`;
}

function duration(seconds) {
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  const days = Math.floor(hours / 24);
  if (days) return `${count(days)} d ${hours % 24} h`;
  if (hours) return `${hours} h ${minutes % 60} min`;
  return minutes ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${Math.floor(seconds)} s`;
}

// The document. Only what differs is written, so that nothing flickers and a selection stays.

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function put(id, text, isBad = false) {
  setText(find(id), text);
  find(id).classList.toggle("bad", isBad);
}

function showIf(isShown, ...nodes) {
  for (const node of nodes) node.hidden = !isShown;
}

/** Show rows in the body of a table. A row is the texts of its cells, and whether it is marked. */
function fill(id, rows, labels = []) {
  const body = find(id);
  while (body.rows.length > rows.length) body.deleteRow(-1);
  rows.forEach(({ texts, isMarked }, index) => {
    const row = body.rows[index] ?? newRow(body, texts.length, labels);
    row.classList.toggle("marked", Boolean(isMarked));
    texts.forEach((text, column) => {
      setText(row.cells[column], text);
      row.cells[column].classList.toggle("zero", ZERO.test(text));
    });
  });
}

function newRow(body, columns, labels) {
  const row = body.insertRow();
  row.setAttribute("role", "row");
  for (let column = 0; column < columns; column += 1) {
    const cell = document.createElement(column ? "td" : "th");
    if (column === 0) cell.scope = "row";
    cell.setAttribute("role", column ? "cell" : "rowheader");
    if (labels[column]) cell.dataset.label = labels[column]; // shown where the head of the table is not
    row.append(cell);
  }
  return row;
}

// Charts: the last two minutes of a number, from 0 to its maximum

const charts = new Map();

function chart(id, uptime, value) {
  const points = (charts.get(id) ?? []).filter((point) => point.uptime > uptime - CHARTED);
  if (value !== null) points.push({ uptime, value });
  charts.set(id, points);
  const maximum = Math.max(...points.map((point) => point.value), Number.MIN_VALUE);
  const path = points.map((point) => {
    const x = CHARTED - (uptime - point.uptime);
    return `${x.toFixed(1)},${(23 - (22 * point.value) / maximum).toFixed(1)}`;
  });
  lineOf(id).setAttribute("points", path.join(" "));
}

function lineOf(id) {
  const tile = find(id).parentElement;
  const known = tile.querySelector("polyline");
  if (known) return known;
  const picture = document.createElementNS(SVG, "svg");
  picture.setAttribute("viewBox", `0 0 ${CHARTED} 24`);
  picture.setAttribute("preserveAspectRatio", "none");
  picture.setAttribute("aria-hidden", "true");
  picture.append(document.createElementNS(SVG, "polyline"));
  find(id).append(picture);
  return picture.firstChild;
}

// The report

/** The growth of counters between two reports. Every rate is null without an earlier report of the same run. */
class Growth {
  constructor(report, before) {
    this.seconds = before ? report.uptime - before.uptime : 0;
    this.services = new Map(before ? before.services.map((service) => [service.service, service]) : []);
  }

  of(service, counter) {
    return this.#perSecond(service[counter], this.services.get(service.service)?.[counter]);
  }

  ofCause(service, effect, cause) {
    const before = this.services.get(service.service);
    return this.#perSecond(service[effect][cause], before && (before[effect][cause] ?? 0));
  }

  #perSecond(now, before) {
    return before === undefined || this.seconds <= 0 ? null : (now - before) / this.seconds;
  }
}

const sum = (numbers) => numbers.reduce((total, number) => (number === null ? total : (total ?? 0) + number), null);

let last = null; // the last report
let storeBefore = []; // of the last seconds: the uptime, and the state of the store

function show(report) {
  const isSameRun = last !== null && last.started === report.started && last.uptime < report.uptime;
  if (!isSameRun) {
    charts.clear();
    storeBefore = [];
  }
  const growth = new Growth(report, isSameRun ? last : null);
  last = report;
  showOverview(report, growth);
  showServices(report, growth);
  showProbes(report);
  showCauses(report, growth);
  showChat(report);
  showNetworks(report);
  showServer(report);
}

function showOverview(report, growth) {
  const services = report.services.filter(({ service }) => service !== PAGES);
  const total = (counter) => sum(services.map((service) => growth.of(service, counter)));
  const ofCauses = (effect) => {
    const causes = services.flatMap((service) =>
      Object.keys(service[effect]).map((cause) => growth.ofCause(service, effect, cause)),
    );
    return growth.seconds > 0 ? (sum(causes) ?? 0) : null;
  };
  tile("open", sum(services.map(({ open }) => open)) ?? 0, report.uptime, count);
  tile("opened", total("opened"), report.uptime, rate);
  tile("received", total("received_bytes"), report.uptime, bytes);
  tile("sent", total("sent_bytes"), report.uptime, bytes);
  tile("replies", total("replies"), report.uptime, rate);
  tile("refused", ofCauses("refused"), report.uptime, rate);
  tile("disconnected", ofCauses("disconnected"), report.uptime, rate);
}

function tile(id, value, uptime, format) {
  let text = find(id).querySelector("span");
  if (!text) {
    text = document.createElement("span");
    find(id).replaceChildren(text);
  }
  setText(text, format(value));
  chart(id, uptime, value);
}

function showServices(report, growth) {
  const rows = report.services.map((service) => ({
    texts: [
      service.service,
      count(service.open),
      count(service.opened),
      rate(growth.of(service, "opened")),
      bytes(growth.of(service, "received_bytes")),
      bytes(growth.of(service, "sent_bytes")),
      rate(growth.of(service, "replies")),
      count(service.stalls),
      count(service.dropped_lines),
      count(service.dropped_datagrams),
    ],
  }));
  fill("service-rows", rows, SERVICE_LABELS);
}

function showProbes({ probes }) {
  const rows = probes.map(({ up, summary }) => {
    const { direction } = summary;
    const delay = summary.durations.rtt ?? summary.durations.connect;
    return {
      texts: [
        summary.target,
        summary.address ?? NONE,
        up ? "answers" : "no answer",
        count(summary.sent),
        count(summary.lost),
        direction?.stateful ? count(direction.lost_there) : NONE,
        direction?.stateful ? count(direction.lost_back) : NONE,
        milliseconds(delay?.p50_seconds ?? null),
        milliseconds(delay?.p99_seconds ?? null),
      ],
      isMarked: !up,
    };
  });
  fill("probe-rows", rows, PROBE_LABELS);
  showIf(rows.length, find("probe-panel"));
}

function showCauses(report, growth) {
  const counted = report.services.flatMap((service) =>
    EFFECTS.flatMap(([effect, name]) =>
      Object.entries(service[effect]).map(([cause, number]) => ({
        cause, service: service.service, effect: name, number, growth: growth.ofCause(service, effect, cause),
      })),
    ),
  );
  counted.sort((one, other) => other.number - one.number);
  const rows = counted.map((each) => ({
    texts: [
      each.cause, each.service, each.effect, count(each.number), rate(each.growth), report.causes[each.cause] ?? "",
    ],
    isMarked: each.growth > 0,
  }));
  fill("cause-rows", rows, CAUSE_LABELS);
  showIf(rows.length, find("cause-table"));
  showIf(!rows.length, find("no-causes"));
}

function showChat({ chat, uptime }) {
  document.body.classList.toggle("has-chat", chat !== null);
  showIf(chat, ...document.querySelectorAll(".of-chat"));
  showIf(chat && chat.store.kind !== "memory", ...document.querySelectorAll(".of-store"));
  showIf(chat && chat.store.kind === "redis", ...document.querySelectorAll(".of-redis"));
  if (!chat) return;
  tile("members", chat.members, uptime, count);
  showStore(chat.store, uptime);
  put("nodes", nodes(chat.nodes), chat.nodes !== null && chat.nodes.alive === null);
  const here = chat.nodes ? "of this node" : "";
  fill("room-rows", chat.rooms.map(({ name, members }) => ({ texts: [name, count(members)] })));
  const shown = chat.rooms.length < chat.room_count ? `The ${count(chat.rooms.length)} largest of ` : "";
  put("room-caption", `${shown}${count(chat.room_count)} rooms with members ${here}`.trim());
  showIf(chat.room_count, find("room-table"));
  showIf(!chat.room_count, find("no-rooms"));
}

function nodes(chatNodes) {
  if (chatNodes === null) return "one process";
  const alive = chatNodes.alive === null ? "unknown" : `${count(chatNodes.alive)} alive`;
  return `${alive}; this is ${chatNodes.own}`;
}

function showStore(store, uptime) {
  const name = { memory: "memory", sqlite: "SQLite", redis: "Redis" }[store.kind] ?? store.kind;
  if (store.kind === "memory") {
    put("store", name);
    return;
  }
  const state = store.connected ? "connected" : "not connected";
  put("store", store.kind === "sqlite" ? name : `${name}, ${state}`, !store.connected);
  storeBefore = storeBefore.filter((before) => before.uptime >= uptime - AVERAGED);
  const { store: before } = storeBefore[0] ?? { store };
  storeBefore.push({ uptime, store });
  const answered = store.appends - before.appends;
  const latency = answered > 0 ? (store.append_seconds - before.append_seconds) / answered : null;
  tile("latency", latency, uptime, milliseconds);
  put("appends", count(store.appends));
  const wait = store.waiting ? `, the oldest for ${milliseconds(store.oldest_wait)}` : "";
  put("waiting", count(store.waiting) + wait, store.oldest_wait > 2);
  put("lines-refused", count(store.refused));
  put("gaps", count(store.gaps));
  put("new-logs", count(store.new_logs));
}

function showNetworks({ networks }) {
  fill("network-rows", networks.map(({ network, connections }) => ({ texts: [network, count(connections)] })));
  showIf(networks.length, find("network-table"));
  showIf(!networks.length, find("no-networks"));
}

function showServer(report) {
  put("version", report.netsvc);
  put("uptime", duration(report.uptime));
  put("ready", report.ready ? "yes" : "no", !report.ready);
  showCertificate(report.certificate_expires, report.time);
  put("log-lines", count(report.dropped_log_lines), report.dropped_log_lines > 0);
}

function showCertificate(expires, now) {
  if (expires === null) {
    put("certificate", "none");
    return;
  }
  const date = new Date(1_000 * expires).toISOString().slice(0, 10);
  const left = expires - now;
  put("certificate", left > 0 ? `expires on ${date}, in ${duration(left)}` : `expired on ${date}`, left < RENEW_BEFORE);
}

// The connection

let isAway = false;
let isFetching = false;
let updatedAt = null; // of performance.now()
let timer = 0;

/** Tell whether the server answers. Only a change is written to the live region; the age is beside it. */
function showConnection(away) {
  isAway = away;
  document.body.classList.toggle("away", away);
  document.body.classList.toggle("ready", !away && last.ready);
  document.body.classList.toggle("unready", !away && !last.ready);
  setText(find("state"), away ? "Not connected" : last.ready ? "Connected" : "Connected; the server is not ready");
  document.title = `${away ? "not connected: " : ""}${location.host} – netsvc status`;
  showAge();
}

function showAge() {
  const seconds = Math.round((performance.now() - updatedAt) / 1_000);
  setText(find("age"), isAway && updatedAt !== null ? `, last update ${duration(seconds)} ago` : "");
}

/** Return the milliseconds until the next request. Each page keeps to its own beat. If the next request followed the
    answer, pages that have waited for a busy server would ask together from then on. */
function untilNext(interval) {
  const left = interval - (performance.now() % interval);
  return left < interval / 4 ? left + interval : left;
}

async function fetchReport() {
  const answer = await fetch("status.json", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  if (!answer.ok) throw new Error(`status ${answer.status}`);
  return answer.json();
}

async function refresh() {
  if (isFetching) return;
  isFetching = true;
  clearTimeout(timer);
  const got = await fetchReport().catch(() => null);
  isFetching = false;
  timer = setTimeout(refresh, untilNext(document.hidden ? REFRESH_HIDDEN : REFRESH));
  if (got === null) {
    if (updatedAt === null || performance.now() - updatedAt > PATIENCE) showConnection(true);
    return;
  }
  if (last !== null && last.netsvc !== got.netsvc) {
    location.reload(); // the page is of another version
    return;
  }
  updatedAt = performance.now();
  show(got);
  showConnection(false);
}

setText(find("host"), location.host);
setInterval(showAge, 1_000);
document.addEventListener("visibilitychange", () => document.hidden || refresh());
refresh();
