// The flow of a stream: producers, the stream, its subscriptions and their consumers. An edge that holds somebody up is marked by its
// colour, its dashes and a bar across it; the same stands below as text.

import { h, name, s } from "./dom.js";
import { bytes, count, counted, short, span } from "./format.js";
import { width } from "./charts.js";

const SHOWN_MAX = 6;
const NODE = 44;
const GAP = 12;

/** A figure of one stream's flow. */
export function flow(stream) {
  const parts = { producers: producers(stream), subscriptions: subscriptions(stream) };
  const wide = width() - 2;
  const drawing = wide < 700 ? tall(stream, parts, wide) : across(stream, parts, wide);
  return h("figure", { class: "flow", "data-key": stream.name },
    s("svg", { width: wide, height: drawing.height, viewBox: `0 0 ${wide} ${drawing.height}`, role: "img", "aria-label": summary(stream, parts) }, drawing.edges, drawing.nodes),
    h("details", {}, h("summary", {}, "The flow as text"), text(stream, parts)));
}

function producers(stream) {
  const waits = new Map();
  for (const { producer, waiting_seconds: since } of stream.waiting) waits.set(producer, Math.max(since, waits.get(producer) ?? 0));
  const known = stream.producers.map((producer) => ({
    ...called(producer),
    detail: waits.has(producer.name) ? `waits ${span(waits.get(producer.name))} for room` : producerDetail(producer),
    waits: waits.get(producer.name),
    isLost: producer.is_lost,
  }));
  const named = new Set(stream.producers.map((producer) => producer.name));
  const others = [...waits].filter(([producer]) => !named.has(producer)).map(([producer, since]) => ({ label: producer, title: "producer", detail: `waits ${span(since)} for room`, waits: since }));
  const all = [...known, ...others].sort((one, other) => (other.waits ?? -1) - (one.waits ?? -1));
  if (all.length === 0 && stream.open_appenders > 0) all.push({ label: counted(stream.open_appenders, "appender", "appenders"), title: "without a name", detail: "DoPut is open" });
  if (all.length === 0) all.push({ label: "nobody", title: "producers", detail: "nobody appends", isNobody: true });
  return fold(all, "producers");
}

/** Spark's queries are called by numbers of 32 digits: eight of them tell them apart here. */
function called({ name: own, kind }) {
  if (kind === "spark") return { label: /^[0-9a-f-]{36}$/.test(own) ? `Spark query ${own.slice(0, 8)}` : own, full: own, title: "Spark" };
  return { label: own, full: own, title: kind === "dead_letters" ? "dead letters" : "producer" };
}

function producerDetail(producer) {
  const open = producer.open_epochs.at(-1);
  if (producer.is_lost) return "lost: no signs of life";
  if (open) return `epoch ${count(open.epoch)} open for ${span(open.open_seconds)}`;
  return producer.committed_epoch === null ? "appends without epochs" : `epoch ${count(producer.committed_epoch)} committed`;
}

function subscriptions(stream) {
  const holding = new Map();
  for (const { subscription, level } of stream.reasons) {
    if (subscription && (level === "blocked" || level === "attention") && !holding.has(subscription)) holding.set(subscription, level);
  }
  const all = stream.subscriptions.map((subscription) => ({
    label: subscription.name,
    title: subscription.evicted_at ? "evicted" : subscription.mode,
    detail: holding.has(subscription.name) && subscription.lag.batches > 0 ? `${counted(subscription.lag.batches, "batch", "batches")}, held for ${span(subscription.lag.held_seconds)}` : subscription.lag.batches === 0 ? "has everything" : `${counted(subscription.lag.batches, "batch", "batches")}, ${span(subscription.lag.age_seconds)} behind`,
    holds: holding.get(subscription.name),
    consumers: subscription.consumers,
    consumersTotal: subscription.consumers_total,
    held: subscription.lag.held_seconds,
  }));
  all.sort((one, other) => rank(other) - rank(one));
  if (all.length === 0) all.push({ label: "nobody", title: "subscriptions", detail: "nobody subscribes", isNobody: true, consumers: [], consumersTotal: 0 });
  return fold(all, "subscriptions");
}

const rank = ({ holds }) => (holds === "blocked" ? 2 : holds === "attention" ? 1 : 0);

function fold(all, what) {
  if (all.length <= SHOWN_MAX) return all;
  const rest = all.length - SHOWN_MAX + 1;
  return [...all.slice(0, SHOWN_MAX - 1), { label: `${count(rest)} more`, title: what, detail: "see the tables", consumers: [], isFolded: true }];
}

function consumers({ consumers: all = [], consumersTotal = 0, isFolded, isNobody }) {
  if (isFolded || isNobody) return null;
  const stalled = all.filter((consumer) => consumer.is_stalled).length;
  if (consumersTotal === 0) return { label: "no consumer", title: "", detail: "nobody reads", isNobody: true };
  const first = all[0]?.name || all[0]?.peer || "unnamed";
  return {
    label: consumersTotal === 1 ? first : counted(consumersTotal, "consumer", "consumers"),
    title: consumersTotal === 1 ? "consumer" : `${first}, …`,
    detail: stalled > 0 ? `${count(stalled)} stalled` : inFlight(all),
  };
}

function inFlight(all) {
  const sum = all.reduce((total, consumer) => total + consumer.in_flight.batches, 0);
  return sum > 0 ? `${counted(sum, "batch", "batches")} in flight` : "reads";
}

/** Four columns side by side. */
function across(stream, { producers: left, subscriptions: right }, wide) {
  const rows = Math.max(left.length, right.length);
  const height = rows * (NODE + GAP) + GAP;
  const column = Math.min(228, (wide - 3 * 72) / 4);
  const step = (wide - column) / 3;
  const middle = (number, index) => (height - number * (NODE + GAP) + GAP) / 2 + index * (NODE + GAP);
  const center = { x: step, y: (height - 72) / 2, w: column, h: 72 };
  const [edges, nodes] = [[], [streamNode(stream, center)]];
  left.forEach((producer, index) => {
    const box = { x: 1, y: middle(left.length, index), w: column, h: NODE };
    nodes.push(node(producer, box, producer.waits === undefined ? "" : "blocked"));
    if (!producer.isNobody) edges.push(edge(box, center, producerEdge(stream, producer, left)));
  });
  right.forEach((subscription, index) => {
    const box = { x: 2 * step, y: middle(right.length, index), w: column, h: NODE };
    nodes.push(node(subscription, box, subscription.holds ?? ""));
    if (subscription.isNobody) return;
    edges.push(edge(center, box, subscriptionEdge(stream, subscription, right)));
    const end = consumers(subscription);
    if (!end) return;
    const last = { x: 3 * step - 1, y: box.y, w: column, h: NODE };
    nodes.push(node(end, last, ""));
    if (!end.isNobody) edges.push(edge(box, last, { kind: subscription.holds ?? "", weight: weight(stream.rates.bytes_out / right.length) }));
  });
  return { height, edges, nodes };
}

/** One below the other, with the edges in a gutter at the left. */
function tall(stream, { producers: left, subscriptions: right }, wide) {
  const gutter = 34;
  const box = (y, h) => ({ x: gutter, y, w: wide - gutter - 1, h });
  const [edges, nodes] = [[], []];
  const center = box(left.length * (NODE + GAP) + GAP, 72);
  left.forEach((producer, index) => {
    const at = box(index * (NODE + GAP) + GAP / 2, NODE);
    nodes.push(node(producer, at, producer.waits === undefined ? "" : "blocked"));
    if (!producer.isNobody) edges.push(around(at, center, 12, producerEdge(stream, producer, left)));
  });
  nodes.push(streamNode(stream, center));
  right.forEach((subscription, index) => {
    const at = box(center.y + center.h + GAP + index * (NODE + GAP), NODE);
    const end = consumers(subscription);
    nodes.push(node({ ...subscription, title: end ? `${subscription.title}, ${end.label}` : subscription.title }, at, subscription.holds ?? ""));
    if (!subscription.isNobody) edges.push(around(center, at, 12, subscriptionEdge(stream, subscription, right)));
  });
  return { height: center.y + center.h + right.length * (NODE + GAP) + GAP, edges, nodes };
}

function producerEdge(stream, producer, all) {
  const kind = producer.waits === undefined ? (producer.isLost ? "attention" : "") : "blocked";
  return { kind, weight: weight(stream.rates.bytes_in / all.length) };
}

function subscriptionEdge(stream, subscription, all) {
  return { kind: subscription.holds ?? "", weight: weight(stream.rates.bytes_out / all.length) };
}

/** From 1.5 pixels for nothing to 6 for a gigabyte per second. */
const weight = (rate) => (rate > 0 ? Math.min(6, 1.8 + Math.log10(1 + rate / 1024) * 0.7) : 1.5);

function edge(from, to, { kind, weight: thick }) {
  const [x1, y1, x2, y2] = [from.x + from.w, from.y + from.h / 2, to.x, to.y + to.h / 2];
  const middle = (x1 + x2) / 2;
  const path = `M${x1} ${y1} C${middle} ${y1} ${middle} ${y2} ${x2} ${y2}`;
  return marked(path, middle, (y1 + y2) / 2, kind, thick, false);
}

function around(from, to, x, { kind, weight: thick }) {
  const [y1, y2] = [from.y + from.h / 2, to.y + to.h / 2];
  const path = `M${from.x} ${y1} H${x + 8} Q${x} ${y1} ${x} ${y1 + 8} V${y2 - 8} Q${x} ${y2} ${x + 8} ${y2} H${to.x}`;
  const near = Math.abs(y2 - y1) < 160;
  return marked(path, x, near ? (y1 + y2) / 2 : from.h === NODE ? y1 + 34 : y2 - 34, kind, thick, true);
}

function marked(path, x, y, kind, thick, isVertical) {
  const isMarked = kind === "blocked" || kind === "attention";
  const bar = isVertical ? `M${x - 8} ${y} h16` : `M${x} ${y - 9} v18`;
  return s("g", { class: `edge ${kind}` },
    s("path", { class: "edge-line", d: path, "stroke-width": (isMarked ? Math.max(2, thick) : thick).toFixed(1) }),
    isMarked ? s("path", { class: "edge-bar", d: bar }) : null);
}

function node({ label, full, title, detail, isNobody }, { x, y, w, h: tall }, kind) {
  return s("g", { class: `node ${kind} ${isNobody ? "nobody" : ""}` }, s("title", {}, `${full ?? label}: ${title}, ${detail}`),
    s("rect", { x, y, width: w, height: tall, rx: 6 }),
    kind ? s("rect", { class: "edge-of-node", x, y, width: 4, height: tall, rx: 2 }) : null,
    s("text", { class: "node-name", x: x + 12, y: y + 18 }, clip(label, w - 24, "600 13px")),
    s("text", { class: "node-detail", x: x + 12, y: y + 34 }, clip([title, detail].filter(Boolean).join(" · "), w - 22, "11.5px")));
}

function streamNode(stream, { x, y, w, h: tall }) {
  const { memory_bytes: memory, memory_batches: batches, disk_bytes: disk } = stream.buffers;
  const held = disk ?? memory;
  const part = Math.min(1, Math.max(held.limit ? held.used / held.limit : 0, disk ? 0 : batches.used / batches.limit));
  return s("g", { class: `node stream ${stream.level}` }, s("title", {}, stream.name),
    s("rect", { x, y, width: w, height: tall, rx: 6 }),
    s("text", { class: "node-name", x: x + 12, y: y + 20 }, clip(stream.name, w - 24, "600 13px")),
    s("text", { class: "node-detail", x: x + 12, y: y + 38 }, clip(`in ${short(stream.rates.rows_in)} · out ${short(stream.rates.rows_out)} rows/s`, w - 22, "11.5px")),
    s("text", { class: "node-detail", x: x + 12, y: y + 54 }, clip(disk ? `${bytes(held.used)} on disk` : `${count(batches.used)} of ${count(batches.limit)} batches, ${bytes(memory.used)}`, w - 22, "11.5px")),
    s("rect", { class: "bar-back", x: x + 12, y: y + tall - 10, width: w - 24, height: 4, rx: 2 }),
    s("rect", { class: part >= 1 ? "bar-used full" : "bar-used", x: x + 12, y: y + tall - 10, width: Math.max(part > 0 ? 2 : 0, (w - 24) * part), height: 4, rx: 2 }));
}

const ruler = document.createElement("canvas").getContext("2d");
const FAMILY = getComputedStyle(document.body).fontFamily;

/** As much of a text as fits; all of it is in the title and in the text below. */
function clip(text, room, font) {
  const letters = [...text].map((letter) => (/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u206f]/u.test(letter) ? "·" : letter));
  ruler.font = `${font} ${FAMILY}`;
  const fits = (number) => ruler.measureText(letters.slice(0, number).join("")).width <= room - (number < letters.length ? 12 : 0);
  if (fits(letters.length)) return letters.join("");
  let number = Math.min(letters.length, Math.floor(room / 4));
  while (number > 1 && !fits(number)) number -= 1;
  return `${letters.slice(0, number).join("")}…`;
}

function summary(stream, { producers: left, subscriptions: right }) {
  const number = (all) => all.filter((one) => !one.isNobody).length;
  const blocked = left.filter((producer) => producer.waits !== undefined).length;
  const holding = right.filter((subscription) => subscription.holds).map((subscription) => subscription.label);
  const trouble = [
    blocked > 0 ? `${counted(blocked, "producer waits", "producers wait")} for room` : "",
    holding.length > 0 ? `held back by ${holding.join(", ")}` : "",
  ].filter(Boolean);
  return `Flow of stream ${stream.name}: ${number(left)} producers, ${number(right)} subscriptions; ${trouble.length ? trouble.join(", ") : "nobody is held up"}`;
}

function text(stream, { producers: left, subscriptions: right }) {
  const into = left.map((producer) => h("li", {}, name(producer.full ?? producer.label), ` (${producer.title}): `, producer.waits === undefined ? producer.detail : h("strong", {}, producer.detail)));
  const out = right.map((subscription) => {
    const end = consumers(subscription);
    return h("li", {}, name(subscription.label), ` (${subscription.title}): ${subscription.detail}`, end ? [", ", name(end.label), `, ${end.detail}`] : "", subscription.holds ? h("strong", {}, ` – holds the stream back, for ${span(subscription.held)}`) : "");
  });
  return h("ol", { class: "flow-text" }, h("li", {}, "Into the stream", h("ul", {}, into)),
    h("li", {}, name(stream.name), `: ${short(stream.rates.rows_in)} rows/s in, ${short(stream.rates.rows_out)} rows/s out`),
    h("li", {}, "Out of the stream", h("ul", {}, out)));
}
