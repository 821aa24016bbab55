// All streams: filtered, sorted and paged by the coordinator, so that a thousand of them are as quick as ten.

import { bar } from "./charts.js";
import { h, name, visible } from "./dom.js";
import { bytes, count, counted, short, span } from "./format.js";
import { WORDS, address, mark } from "./overview.js";

const SORTS = { name: "name", level: "what presses most", rows_in: "rows in", bytes_in: "bytes in", rows_out: "rows out", bytes_out: "bytes out", lag: "lag in batches", lag_seconds: "lag in seconds", buffered: "bytes in memory" };

export function load({ query }, get) {
  return get("streams", { filter: query.filter, level: query.level, sort: query.sort, page: query.page, per_page: 50 });
}

export function levels(data) {
  return data.streams.map(({ name: stream, level, reason }) => ({ name: stream, level, text: reason?.text ?? "" }));
}

export function render(data, { query }) {
  return {
    title: "Streams",
    nodes: [
      h("h1", { tabindex: "-1" }, "Streams"),
      h("form", { class: "filters", role: "search" },
        h("label", {}, "Name contains", h("input", { type: "search", name: "filter", "data-parameter": "filter", value: query.filter ?? "", autocomplete: "off", spellcheck: "false" })),
        choice("Level", "level", { "": "all", ...WORDS }, query.level),
        choice("Sorted by", "sort", SORTS, query.sort ?? "name")),
      h("p", { class: "note", role: "status" }, data.matching === data.total ? counted(data.total, "stream", "streams") : `${count(data.matching)} of ${counted(data.total, "stream", "streams")}`),
      data.streams.length > 0 ? table(data.streams) : h("p", {}, data.total > 0 ? "No stream is like that." : "There are no streams yet: a producer's first append makes one."),
      pages(data, query),
    ],
  };
}

function choice(label, parameter, options, chosen = "") {
  const option = ([value, text]) => h("option", { value, selected: value === chosen }, text);
  return h("label", {}, label, h("select", { name: parameter, "data-parameter": parameter }, Object.entries(options).map(option)));
}

function table(streams) {
  const heads = [["Stream"], ["Level", "", "level-head"], ["In", "rows/s", "right"], ["Out", "rows/s", "right"], ["Memory", "batches", "wide"], ["Bytes", "", "right wide"], ["Lag", "batches", "right"], ["Behind", "", "right wide"], ["Why", "", "wide"]];
  return h("table", { class: "list" }, h("caption", { class: "hidden" }, "Streams"),
    h("thead", {}, h("tr", {}, heads.map(([head, unit, kind = ""]) => h("th", { scope: "col", class: kind }, head, unit ? h("span", { class: "unit" }, ` ${unit}`) : null)))),
    h("tbody", {}, streams.map(row)));
}

function row(stream) {
  const { memory_batches: batches, memory_bytes: memory } = stream.buffers;
  const part = batches.limit ? Math.min(1, Math.max(batches.used / batches.limit, memory.used / memory.limit)) : 0;
  return h("tr", { "data-key": stream.name },
    h("th", { scope: "row" }, h("a", { href: address(stream.name) }, name(stream.name)), stream.state === "open" ? null : h("span", { class: "badge" }, stream.state)),
    h("td", {}, h("span", { class: "level" }, mark(stream.level), h("span", { class: "level-word" }, WORDS[stream.level]))),
    h("td", { class: "right number" }, short(stream.rates.rows_in)),
    h("td", { class: "right number" }, short(stream.rates.rows_out)),
    h("td", { class: "wide" }, h("div", { class: "with-bar" }, bar(part, part >= 1 ? "full" : part >= 0.85 ? "high" : "", `${Math.round(part * 100)}% of the room`), h("span", { class: "number" }, `${count(batches.used)}/${count(batches.limit)}`))),
    h("td", { class: "right number wide" }, bytes(memory.used)),
    h("td", { class: "right number" }, stream.lag ? count(stream.lag.batches) : "–"),
    h("td", { class: "right number wide" }, stream.lag && stream.lag.batches > 0 ? span(stream.lag.age_seconds) : "–"),
    h("td", { class: "why wide" }, stream.reason && stream.level !== "calm" ? h("span", {}, visible(stream.reason.text)) : ""));
}

function pages({ page, per_page: size, matching }, query) {
  const last = Math.max(1, Math.ceil(matching / size));
  if (last === 1) return null;
  const link = (to, text) => (to < 1 || to > last ? h("span", { class: "off" }, text) : h("a", { href: `#/streams?${new URLSearchParams({ ...query, page: to })}`, rel: to < page ? "prev" : "next" }, text));
  return h("nav", { class: "pages", "aria-label": "Pages" }, link(page - 1, "Previous"), h("span", {}, `Page ${count(page)} of ${count(last)}`), link(page + 1, "Next"));
}
