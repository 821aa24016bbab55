// One stream: its flow, who reads it, its partitions, its schema, its rows.

import { bar, epochs, gauge, lines, width } from "./charts.js";
import { h, name, visible } from "./dom.js";
import { flow } from "./flow.js";
import { bytes, count, counted, percent, short, span } from "./format.js";
import { WORDS, address, mark } from "./overview.js";
import * as rows from "./rows.js";

const TABS = { "": "Flow", subscriptions: "Subscriptions", partitions: "Partitions", schema: "Schema", rows: "Rows" };
const PARTITIONS_SHOWN = 256;

const tab = ({ parts }) => (TABS[parts[1]] ? parts[1] : "");

export async function load(route, get) {
  const stream = route.parts[0];
  const [data, more] = await Promise.all([
    get("stream", { name: stream }),
    { "": () => get("history", { name: stream }), rows: () => rows.load(stream, route, get) }[tab(route)]?.(),
  ]);
  return { ...data, more };
}

export function levels(data) {
  return [{ name: data.name, level: data.level, text: data.reasons[0]?.text ?? "" }];
}

export function render(data, route) {
  const here = tab(route);
  const body = { "": overview, subscriptions, partitions, schema, rows: rows.render }[here];
  return {
    title: data.name,
    nodes: [
      h("p", { class: "crumb" }, h("a", { href: "#/streams" }, "Streams")),
      h("h1", { tabindex: "-1", class: "stream-title" }, mark(data.level), name(data.name), h("span", { class: "badge" }, WORDS[data.level]), data.state === "open" ? null : h("span", { class: "badge" }, data.state), data.is_durable ? h("span", { class: "badge" }, "durable") : null),
      h("ul", { class: "reasons" }, data.reasons.map((reason) => h("li", { class: `reason ${reason.level}` }, mark(reason.level), h("div", {}, h("span", { class: "hidden" }, `${WORDS[reason.level]}: `), h("p", {}, visible(reason.text)))))),
      h("nav", { class: "tabs", "aria-label": "Parts of the stream" }, Object.entries(TABS).map(([key, label]) =>
        h("a", { href: address(data.name, key), "aria-current": key === here ? "page" : null }, label, key === "subscriptions" ? h("span", { class: "count" }, count(data.subscriptions.length)) : null))),
      body(data, route),
    ],
  };
}

function overview(data) {
  const { more: history, buffers } = data;
  const wide = width();
  const half = wide >= 900 ? (wide - 24) / 2 : wide;
  const open = data.producers.flatMap((producer) => producer.open_epochs.map((epoch) => ({ producer, epoch })));
  const shown = open.slice(0, 6).map(({ producer, epoch }) => ({ seconds: epoch.open_seconds, label: `epoch ${count(epoch.epoch)}, open for ${span(epoch.open_seconds)}` }));
  return [
    h("section", { "aria-labelledby": "flow" }, h("h2", { id: "flow", class: "hidden" }, "Flow"), h("div", { class: "panel" }, flow(data))),
    h("section", { "aria-labelledby": "moves" }, h("h2", { id: "moves" }, "The past hour"),
      h("div", { class: "charts" },
        lines(history.times, [{ label: "in", kind: "in", values: history.rows_in }, { label: "out", kind: "out", values: history.rows_out }], { title: "Rows per second", format: short, wide: half }),
        lines(history.times, [{ label: "in memory", kind: "in", values: history.buffered_bytes }], { title: "Bytes in memory", format: bytes, wide: half, binary: true })),
      h("div", { class: "gauges" }, gauge("Batches in memory", buffers.memory_batches, count), gauge("Bytes in memory", buffers.memory_bytes), gauge("Spool", buffers.spool_bytes), buffers.disk_bytes ? gauge("Log on disk", buffers.disk_bytes) : null),
      facts([["Appended", `${count(data.appended.rows)} rows in ${counted(data.appended.batches, "batch", "batches")}, ${bytes(data.appended.bytes)}`], ["Delivered", `${count(data.delivered.rows)} rows in ${counted(data.delivered.batches, "batch", "batches")}, ${bytes(data.delivered.bytes)}`], ["Producers have waited", span(data.blocked_seconds)], ["Dead letters", count(data.dead_letters)], ["Open calls", `${counted(data.open_appenders, "DoPut", "DoPut")}, ${counted(data.open_readers, "DoGet", "DoGet")}`]])),
    h("section", { "aria-labelledby": "epochs" }, h("h2", { id: "epochs" }, "Epochs"),
      h("p", { class: "note" }, data.epochs.committed + data.epochs.aborted + open.length === 0 ? "None: what is appended is seen as it comes." : `${count(data.epochs.committed)} committed, ${count(data.epochs.aborted)} aborted, ${count(data.epochs.replayed)} replayed since the stream was made. Bars: commits of ten seconds each; bands: epochs that are open.`),
      data.epochs.committed + open.length > 0 ? h("div", { class: "scroll-x timeline" }, epochs(history.times, history.epochs, shown, Date.parse(data.at) / 1000)) : null,
      producers(data)),
  ];
}

const facts = (all) => h("dl", { class: "facts" }, all.map(([term, text]) => h("div", {}, h("dt", {}, term), h("dd", {}, text))));

function producers(data) {
  if (data.producers.length === 0) return null;
  const line = (producer) => {
    const open = producer.open_epochs[0];
    return h("tr", { "data-key": producer.name }, h("th", { scope: "row" }, name(producer.name), producer.kind === "producer" ? null : h("span", { class: "badge" }, { spark: "Spark", dead_letters: "dead letters" }[producer.kind]), producer.is_lost ? h("span", { class: "badge bad" }, "lost") : null),
      h("td", { class: "right number" }, producer.committed_epoch === null ? "–" : count(producer.committed_epoch)),
      h("td", { class: "right number" }, open ? count(open.epoch) : "–"),
      h("td", { class: "right number" }, open ? span(open.open_seconds) : "–"),
      h("td", { class: "right number wide" }, open ? count(open.staged.rows) : "–"),
      h("td", { class: "right number wide" }, open ? bytes(open.staged.bytes) : "–"));
  };
  return table("Producers", [["Producer"], ["Committed", "right"], ["Open", "right"], ["For", "right"], ["Staged rows", "right wide"], ["Staged bytes", "right wide"]], data.producers.map(line), data.producers_total - data.producers.length);
}

function table(caption, heads, lines, more = 0) {
  return [h("table", { class: "list" }, h("caption", { class: "hidden" }, caption), h("thead", {}, h("tr", {}, heads.map(([head, kind = ""]) => h("th", { scope: "col", class: kind }, head)))), h("tbody", {}, lines)),
    more > 0 ? h("p", { class: "note" }, `and ${count(more)} more`) : null];
}

function subscriptions(data) {
  if (data.subscriptions.length === 0) return h("p", {}, "Nobody subscribes: what is appended stays for the first one.");
  return data.subscriptions.map((subscription) => {
    const { lag, pieces } = subscription;
    const holds = data.reasons.find((reason) => reason.subscription === subscription.name && (reason.level === "blocked" || reason.level === "attention"));
    return h("section", { class: `panel subscription ${holds?.level ?? ""}`, "data-key": subscription.name },
      h("h2", {}, holds ? mark(holds.level) : null, name(subscription.name), h("span", { class: "badge" }, subscription.mode), subscription.evicted_at ? h("span", { class: "badge bad" }, "evicted") : null),
      holds ? h("p", {}, visible(holds.text)) : null,
      facts([["Lag", lag.batches > 0 ? `${counted(lag.batches, "batch", "batches")}, ${counted(lag.rows, "row", "rows")}, ${bytes(lag.bytes)}` : "none"], ["Behind", lag.batches > 0 ? span(lag.age_seconds) : "–"], ["Stands", lag.batches > 0 ? `for ${span(lag.held_seconds)}` : "–"], ["Caught up", drains(lag)], ["If it holds room", { hold: "it holds producers back", skip: "it skips the oldest", evict: "it is evicted" }[subscription.on_overflow]], lag.skipped_batches > 0 ? ["Skipped", counted(lag.skipped_batches, "batch", "batches")] : null,
        ...(pieces ? [["Leases", `${count(pieces.leased)} with consumers`], ["Redeliveries", `${count(pieces.failed)} since the start, ${count(pieces.returned)} of them wait`], ["Dead letters", [`${count(pieces.dying)} on the way to `, name(subscription.dead_letters_to), `, after ${count(subscription.max_deliveries)} deliveries`]]] : [])].filter(Boolean)),
      subscription.dead_letters_wait_for ? h("p", { class: "bad-text" }, "Dead letters cannot be written: ", visible(subscription.dead_letters_wait_for)) : null,
      consumers(subscription), places(subscription));
  });
}

const drains = (lag) => (lag.batches === 0 ? "yes" : lag.drains_in_seconds === null ? "never, as it went lately" : `in ${span(lag.drains_in_seconds)}, as it went lately`);

function consumers(subscription) {
  if (subscription.consumers.length === 0) return h("p", { class: "note" }, "No consumer.");
  const line = (consumer) => h("tr", {}, h("th", { scope: "row" }, name(consumer.name || "unnamed"), consumer.is_stalled ? h("span", { class: "badge bad" }, "stalled") : null), h("td", { class: "wide" }, name(consumer.peer)), h("td", { class: "right number" }, span(consumer.reading_seconds)), h("td", { class: "right number wide" }, consumer.lease_left_seconds === null ? "–" : span(consumer.lease_left_seconds)), h("td", { class: "right number" }, count(consumer.in_flight.batches)), h("td", { class: "right wide" }, list(consumer.partitions)));
  return table(`Consumers of ${subscription.name}`, [["Consumer"], ["From", "wide"], ["Reads for", "right"], ["Lease left", "right wide"], ["In flight", "right"], ["Partitions", "right wide"]], subscription.consumers.map(line), subscription.consumers_total - subscription.consumers.length);
}

const list = (numbers) => (numbers.length > 8 ? `${numbers.slice(0, 8).join(", ")}, … (${count(numbers.length)})` : numbers.join(", "));

function places(subscription) {
  if (subscription.partitions.length < 2) return null;
  const most = Math.max(1, ...subscription.partitions.map((place) => place.batches));
  const line = (place) => h("tr", {}, h("th", { scope: "row", class: "number" }, place.partition), h("td", { class: "right number" }, count(place.acked)), h("td", {}, h("div", { class: "with-bar" }, bar(place.batches / most, "", `${count(place.batches)} batches`), h("span", { class: "number" }, count(place.batches)))), h("td", { class: "right number wide" }, bytes(place.bytes)), h("td", { class: "right number" }, place.batches > 0 ? span(place.age_seconds) : "–"));
  const shown = subscription.partitions.slice(0, PARTITIONS_SHOWN);
  return h("details", {}, h("summary", {}, `Lag by partition (${count(subscription.partitions.length)})`), table(`Lag of ${subscription.name} by partition`, [["Partition"], ["Acked up to", "right"], ["Lag in batches"], ["Bytes", "right wide"], ["Behind", "right"]], shown.map(line), subscription.partitions.length - shown.length));
}

function partitions(data) {
  const rows = data.partitions.map((partition) => partition.rows);
  const total = rows.reduce((sum, one) => sum + one, 0);
  const most = Math.max(1, ...rows);
  const mean = total / rows.length;
  const line = (partition) => h("tr", {}, h("th", { scope: "row", class: "number" }, partition.partition),
    h("td", { class: "right number" }, `${count(partition.start)} – ${count(partition.end)}`),
    h("td", {}, h("div", { class: "with-bar" }, bar(partition.rows / most, "", `${count(partition.rows)} rows`), h("span", { class: "number" }, count(partition.rows)))),
    h("td", { class: "right number wide" }, percent(partition.rows, total)),
    h("td", { class: "right number wide" }, bytes(partition.bytes)),
    h("td", { class: "right number wide" }, bytes(partition.buffered_bytes)),
    h("td", { class: "right number wide" }, partition.idle_seconds === null ? "–" : span(partition.idle_seconds)),
    h("td", { class: "right" }, h("a", { href: `${address(data.name, "rows")}?partition=${partition.partition}`, "aria-label": `Rows of partition ${partition.partition}` }, "rows")));
  const skew = rows.length > 1 && total > 0 ? `The largest has ${(most / mean).toFixed(1)} times the rows of the mean; ${counted(rows.filter((one) => one === 0).length, "is", "are")} empty.` : "";
  const shown = data.partitions.slice(0, PARTITIONS_SHOWN);
  return h("section", { "aria-labelledby": "partitions" }, h("h2", { id: "partitions" }, counted(data.partitions.length, "partition", "partitions")), skew ? h("p", { class: "note" }, skew) : null,
    table("Partitions", [["Partition"], ["Offsets kept", "right"], ["Rows ever appended"], ["Share", "right wide"], ["Bytes", "right wide"], ["In memory", "right wide"], ["Idle", "right wide"], [h("span", { class: "hidden" }, "Look"), "right"]], shown.map(line), data.partitions.length - shown.length));
}

function schema(data) {
  const fields = data.schema?.fields ?? [];
  const line = (field) => h("tr", {}, h("th", { scope: "row" }, name(field.name)), h("td", {}, h("code", {}, field.type)), h("td", {}, field.nullable ? "may be null" : "never null"));
  const value = (key, one) => (one === null ? "–" : key.endsWith("_bytes") ? bytes(one) : key.endsWith("_ms") ? (one === 0 ? "0" : span(one / 1000)) : key.endsWith("_percent") ? `${one}%` : typeof one === "number" ? count(one) : one.replace("_", " "));
  return [h("section", { "aria-labelledby": "schema" }, h("h2", { id: "schema" }, "Schema"),
    fields.length === 0 ? h("p", {}, "None yet: the first batch brings it.") : [data.schema_versions > 1 ? h("p", { class: "note" }, `What takes in all ${count(data.schema_versions)} versions.`) : null, table("Columns", [["Column"], ["Type"], ["Nulls"]], fields.map(line), data.schema.fields_total - fields.length)]),
  h("section", { "aria-labelledby": "options" }, h("h2", { id: "options" }, "Options"), facts(Object.entries(data.options).map(([key, one]) => [key, value(key, one)])))];
}
