// A look at rows. It moves nothing, and is made when it is asked for.

import { h, name, visible } from "./dom.js";
import { count, counted } from "./format.js";

/** Rows, or why there are none. */
export function load(stream, { query }, get) {
  const { partition, offset, row, rows = 50 } = query;
  return get("rows", { name: stream, partition, offset, row, rows }).catch((refused) => {
    if (refused.status === undefined || refused.status === 401) throw refused;
    return { refused: refused.message };
  });
}

export function render(data, route) {
  const { query } = route;
  const shown = data.more ?? { refused: "the rows have not come yet" };
  const address = (parameters) => `#/stream/${encodeURIComponent(data.name)}/rows?${new URLSearchParams({ ...(query.partition ? { partition: query.partition } : {}), ...(query.whole ? { whole: 1 } : {}), ...parameters })}`;
  return h("section", { "aria-labelledby": "rows" }, h("h2", { id: "rows" }, "Rows"),
    h("p", { class: "note" }, "A look that moves nothing: no subscription is read, made or acked. What all have acked is gone."),
    h("form", { class: "filters" },
      h("label", {}, "Partition", h("input", { type: "number", name: "partition", min: 0, max: data.partitions.length - 1, value: query.partition ?? 0 })),
      h("label", {}, "From offset", h("input", { type: "text", name: "offset", inputmode: "numeric", value: query.offset ?? "earliest", pattern: "[0-9]+|earliest|newest", autocomplete: "off" })),
      h("label", {}, "Rows", h("input", { type: "number", name: "rows", min: 1, max: 200, value: query.rows ?? 50 })),
      h("input", { type: "hidden", name: "row", value: "" }),
      h("button", { type: "submit", class: "main" }, "Look"),
      h("label", { class: "check" }, h("input", { type: "checkbox", "data-parameter": "whole", checked: Boolean(query.whole) }), "Whole values")),
    shown.refused ? h("p", { class: "bad-text", role: "status" }, shown.refused) : [
      h("p", { class: "note", role: "status" }, says(shown)),
      shown.rows.length > 0 ? table(shown, Boolean(query.whole)) : null,
      h("nav", { class: "pages", "aria-label": "Through the rows" },
        h("a", { href: address({ offset: "earliest" }) }, "Earliest"), h("a", { href: address({ offset: "newest" }) }, "Newest batch"),
        shown.next ? h("a", { href: address({ offset: shown.next.offset, row: shown.next.row, rows: query.rows ?? 50 }) }, "Next rows") : h("span", { class: "off" }, "Next rows")),
    ]);
}

function says({ rows, start, end, columns, columns_total: all, partition }) {
  const kept = start === end ? `Partition ${partition} keeps nothing.` : `Partition ${partition} keeps offsets ${count(start)} to ${count(end - 1)}.`;
  const cut = all > columns.length ? ` The first ${count(columns.length)} of ${count(all)} columns are shown.` : "";
  return `${counted(rows.length, "row", "rows")}. ${kept}${cut}`;
}

function table({ columns, rows }, isWhole) {
  const head = (column) => h("th", { scope: "col", class: column.is_number ? "right" : "" }, name(column.name), h("span", { class: "type" }, column.type));
  return h("div", { class: "scroll-x rows", role: "region", "aria-label": "Table of rows", tabindex: "0" },
    h("table", { class: `cells ${isWhole ? "whole" : ""}` }, h("caption", { class: "hidden" }, "Rows"),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "right place" }, "offset"), h("th", { scope: "col", class: "right place" }, "row"), columns.map(head))),
      h("tbody", {}, rows.map(({ offset, row, cells }) => h("tr", {}, h("td", { class: "right number place" }, offset), h("td", { class: "right number place" }, row),
        cells.map((cell, index) => h("td", { class: columns[index].is_number ? "right number" : "" }, value(cell))))))));
}

/** A null is no text; an empty text says so; what is cut says so. */
function value(cell) {
  if (cell === null) return h("span", { class: "null" }, "null");
  if (cell === "") return h("span", { class: "null" }, "empty");
  const text = typeof cell === "string" ? cell : cell.text;
  return h("bdi", { class: "cell" }, visible(text), cell.is_cut ? h("span", { class: "control" }, "cut here") : null);
}
