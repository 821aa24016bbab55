// The overview: whether anybody is held up, what moves, what is full.

import { gauge, lines, width } from "./charts.js";
import { h, name, visible } from "./dom.js";
import { flow } from "./flow.js";
import { bytes, count, counted, short, span } from "./format.js";

const REASONS_SHOWN = 6;

export const WORDS = { blocked: "blocked", attention: "needs attention", busy: "busy", calm: "calm" };

export async function load(route, get) {
  const [overview, history] = await Promise.all([get("overview"), get("history")]);
  const streams = await Promise.all(overview.foremost.map((stream) => get("stream", { name: stream }).catch(gone)));
  return { ...overview, history, flows: streams.filter(Boolean) };
}

/** A stream that was deleted meanwhile. */
function gone(error) {
  if (error.status === 404) return null;
  throw error;
}

export function levels(data) {
  return data.reasons.map(({ stream, level, text }) => ({ name: stream, level, text }));
}

export function render(data) {
  const { rates, buffers, history } = data;
  const wide = width();
  const half = wide >= 900 ? (wide - 24) / 2 : wide;
  return {
    title: "bowstring",
    nodes: [
      headline(data),
      h("section", { "aria-labelledby": "moves" }, h("h2", { id: "moves", class: "hidden" }, "What moves"),
        h("dl", { class: "tiles" },
          tile("In", `${short(rates.rows_in)}`, "rows/s", `${bytes(rates.bytes_in)}/s · ${short(rates.batches_in)} batches/s`, "in"),
          tile("Out", `${short(rates.rows_out)}`, "rows/s", `${bytes(rates.bytes_out)}/s`, "out"),
          tile("Waiting", count(data.waiting_appenders), data.waiting_appenders === 1 ? "append" : "appends", "for room", data.waiting_appenders ? "blocked" : ""),
          tile("Streams", count(data.streams), "", counted(data.connections, "connection", "connections"), ""))),
      reasons(data.reasons, data.levels),
      flows(data.flows),
      h("section", { "aria-labelledby": "hour" }, h("h2", { id: "hour" }, "The past hour"),
        h("div", { class: "charts" },
          lines(history.times, [{ label: "in", kind: "in", values: history.rows_in }, { label: "out", kind: "out", values: history.rows_out }], { title: "Rows per second", format: short, wide: half }),
          lines(history.times, [{ label: "in", kind: "in", values: history.bytes_in }, { label: "out", kind: "out", values: history.bytes_out }], { title: "Bytes per second", format: bytes, wide: half, binary: true }))),
      h("section", { "aria-labelledby": "held" }, h("h2", { id: "held" }, "What is held"),
        h("p", { class: "note" }, "Over all streams, against the sum of their limits."),
        h("div", { class: "gauges" }, gauge("Batches in memory", buffers.memory_batches, count), gauge("Bytes in memory", buffers.memory_bytes),
          gauge("Spool", buffers.spool_bytes), buffers.disk_bytes ? gauge("Logs on disk", buffers.disk_bytes) : null)),
    ],
  };
}

function headline({ levels: numbers, streams, version, uptime_seconds: uptime, storage, status }) {
  const says = numbers.blocked > 0 ? `${counted(numbers.blocked, "stream is", "streams are")} blocked`
    : numbers.attention > 0 ? `Nobody is blocked; ${counted(numbers.attention, "stream needs", "streams need")} attention`
      : streams > 0 ? "Nothing is held up" : "No streams yet";
  const level = status !== "ok" || numbers.blocked > 0 ? "blocked" : numbers.attention > 0 ? "attention" : "calm";
  return h("div", { class: "headline" },
    h("h1", { tabindex: "-1", class: `level-${level}` }, says),
    h("p", { class: "note" }, `bowstring ${version}, up for ${span(uptime)}, streams in ${{ memory: "memory", disk: "memory and on disk", object_store: "an object store" }[storage] ?? storage}`),
    h("ul", { class: "levels", "aria-label": "Streams by level" }, ["blocked", "attention", "busy", "calm"].map((one) =>
      h("li", {}, h("a", { href: `#/streams?level=${one}`, class: `level ${one}` }, mark(one), h("span", { class: "number" }, count(numbers[one])), ` ${WORDS[one]}`)))));
}

/** A level's mark: a form of its own beside its colour. */
export function mark(level) {
  return h("span", { class: `mark ${level}`, "aria-hidden": "true" });
}

/** The sentences, one item for each stream. */
function reasons(all, numbers) {
  if (all.length === 0) return null;
  const streams = new Map();
  for (const reason of all) streams.set(reason.stream, [...(streams.get(reason.stream) ?? []), reason]);
  const more = numbers.blocked + numbers.attention - Math.min(streams.size, REASONS_SHOWN);
  const item = ([stream, own]) => h("li", { class: `reason ${own[0].level}`, "data-key": stream }, mark(own[0].level),
    h("div", { class: "reason-of" }, h("a", { href: address(stream) }, name(stream)), h("span", { class: "hidden" }, ` ${WORDS[own[0].level]}`)),
    h("div", {}, own.slice(0, 3).map(({ text }) => h("p", {}, visible(text)))));
  return h("section", { "aria-labelledby": "why" }, h("h2", { id: "why" }, "Who is held up, and why"),
    h("ul", { class: "reasons joined" }, [...streams].slice(0, REASONS_SHOWN).map(item)),
    more > 0 ? h("p", { class: "note" }, h("a", { href: "#/streams?sort=level" }, `${counted(more, "more stream", "more streams")}`)) : null);
}

export const address = (stream, tab = "") => `#/stream/${encodeURIComponent(stream)}${tab ? `/${tab}` : ""}`;

function tile(label, number, unit, note, kind) {
  return h("div", { class: `tile ${kind}` }, h("dt", {}, label), h("dd", {}, h("span", { class: "large" }, number), unit ? h("span", { class: "unit" }, ` ${unit}`) : null, h("span", { class: "under" }, note)));
}

function flows(streams) {
  if (streams.length === 0) return null;
  return h("section", { "aria-labelledby": "flow" }, h("h2", { id: "flow" }, "The flow"),
    h("p", { class: "note" }, "The streams that press most, then those that move most."),
    streams.map((stream) => h("article", { class: "panel", "data-key": stream.name },
      h("h3", {}, mark(stream.level), h("a", { href: address(stream.name) }, name(stream.name)), h("span", { class: "badge" }, WORDS[stream.level])),
      flow(stream))));
}
