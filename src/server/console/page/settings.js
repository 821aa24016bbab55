// What the coordinator was started with, and how it does.

import { h, name, visible } from "./dom.js";
import { bytes, count, counted, span } from "./format.js";

export const configuration = {
  polls: false,
  load: (route, get) => get("configuration"),
  render: ({ settings }) => ({
    title: "Configuration",
    nodes: [
      h("h1", { tabindex: "-1" }, "Configuration"),
      h("p", { class: "note" }, "What this coordinator was started with. Secrets are not shown. “program”: set by the program that started it."),
      h("table", { class: "list" }, h("caption", { class: "hidden" }, "Settings"),
        h("thead", {}, h("tr", {}, ["Setting", "Value", "From", "Default"].map((head, index) => h("th", { scope: "col", class: index === 3 ? "wide" : "" }, head)))),
        h("tbody", {}, settings.map(setting))),
    ],
  }),
};

function setting({ name: of, value, default: usual, source, unit, meaning }) {
  return h("tr", {}, h("th", { scope: "row" }, h("code", {}, of), h("span", { class: "meaning" }, meaning)), h("td", {}, h("span", { class: source === "default" ? "" : "set" }, text(value, unit))), h("td", {}, h("span", { class: source === "default" ? "note" : "badge first" }, source)), h("td", { class: "wide note" }, text(usual, unit)));
}

function text(value, unit) {
  if (value === null) return "none";
  if (unit === "bytes") return bytes(value);
  if (unit === "milliseconds") return span(value / 1000);
  if (unit === "percent") return `${value}%`;
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "number" ? count(value) : visible(value);
}

export const health = {
  load: (route, get) => get("health"),
  render: (data) => ({
    title: "Health",
    nodes: [
      h("h1", { tabindex: "-1", class: data.status === "ok" && data.ready === "ready" ? "" : "level-blocked" }, verdict(data)),
      h("dl", { class: "facts" }, facts(data).map(([term, said]) => h("div", {}, h("dt", {}, term), h("dd", {}, said)))),
      stalled(data.stalled),
      errors(data.errors),
    ],
  }),
};

function verdict({ status, ready }) {
  if (status !== "ok") return "Logs have stalled";
  return ready === "ready" ? "The coordinator does well" : `New work is not welcome: ${ready.replace("_", " ")}`;
}

function facts(data) {
  return [
    ["Version", data.version], ["Up for", span(data.uptime_seconds)], ["Streams", `${count(data.streams)}, in ${data.storage.replace("_", " ")}`],
    ["Connections", `${count(data.connections)}, of which ${count(data.unix_connections)} by the Unix socket`],
    ["Memory of the process", data.resident_bytes === null ? "not known" : bytes(data.resident_bytes)], ["CPU time", span(data.cpu_seconds)],
    ["Shared memory", `${counted(data.shared_memory.links, "link", "links")}, ${bytes(data.shared_memory.lent_bytes)} lent, ${bytes(data.shared_memory.looked_at_bytes)} looked at`],
  ];
}

function stalled(streams) {
  const all = Object.entries(streams);
  if (all.length === 0) return null;
  return h("section", { "aria-labelledby": "stalled" }, h("h2", { id: "stalled" }, "Logs that do not go on"), h("ul", { class: "reasons" }, all.map(([stream, why]) => h("li", { class: "reason blocked" }, h("span", { class: "mark blocked", "aria-hidden": "true" }), h("div", {}, name(stream), h("p", {}, visible(why)))))));
}

function errors(all) {
  const codes = Object.entries(all);
  return h("section", { "aria-labelledby": "errors" }, h("h2", { id: "errors" }, "Errors given to clients"),
    codes.length === 0 ? h("p", { class: "note" }, "None since the start.") : h("table", { class: "list narrow" }, h("caption", { class: "hidden" }, "Errors by code"), h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "Code"), h("th", { scope: "col", class: "right" }, "Times"))), h("tbody", {}, codes.map(([code, times]) => h("tr", {}, h("th", { scope: "row" }, h("code", {}, code)), h("td", { class: "right number" }, count(times)))))));
}
