// Small pictures of numbers. Each has its numbers in words too, for those who do not see it.

import { h, s } from "./dom.js";
import { bytes, clock, percent } from "./format.js";

/** Width that the content has, in pixels. */
export function width() {
  return Math.max(260, document.getElementById("content").clientWidth - 2 * (innerWidth < 700 ? 16 : 28));
}

/** How much of a limit is used: a bar and the numbers. */
export function gauge(label, { used, limit }, format = bytes) {
  const part = limit > 0 ? Math.min(1, used / limit) : 0;
  const level = part >= 1 ? "full" : part >= 0.85 ? "high" : "";
  return h("div", { class: "gauge" },
    h("div", { class: "gauge-head" }, h("span", {}, label), h("span", { class: "number" }, format(used), h("span", { class: "of" }, ` of ${format(limit)}`))),
    bar(part, level, `${label}: ${format(used)} of ${format(limit)}, ${percent(used, limit)}`));
}

/** A bar from 0 to 1. */
export function bar(part, level, label) {
  const filled = part > 0 ? Math.max(0.6, 100 * part) : 0;
  return s("svg", { class: `bar ${level}`, viewBox: "0 0 100 6", preserveAspectRatio: "none", role: "img", "aria-label": label },
    s("rect", { class: "bar-back", width: 100, height: 6 }), s("rect", { class: "bar-used", width: filled.toFixed(2), height: 6 }));
}

/** Lines over the past hour: `series` are {label, values, kind}. */
export function lines(times, series, { height = 132, format, title, wide = width(), binary = false }) {
  const left = 58;
  const bottom = 20;
  const top = 10;
  const most = Math.max(0, ...series.flatMap(({ values }) => values));
  const ceiling = binary ? roundBinary(most) : round(most);
  const seconds = window(times);
  const newest = times.at(-1) ?? 0;
  const x = (time) => left + ((time - (newest - seconds)) / seconds) * (wide - left - 8);
  const y = (value) => top + (1 - value / (ceiling || 1)) * (height - top - bottom);
  const grid = [0, 0.5, 1].map((part) => [
    s("line", { class: "grid", x1: left, x2: wide - 8, y1: y(part * ceiling), y2: y(part * ceiling) }),
    part > 0 && ceiling > 0 ? s("text", { class: "axis", x: left - 8, y: y(part * ceiling) + 4, "text-anchor": "end" }, format(part * ceiling)) : null,
  ]);
  const ticks = axis(x, newest, seconds, height - 4);
  const drawn = series.map(({ values, kind }) => {
    const points = values.map((value, index) => `${x(times[index]).toFixed(1)},${y(value).toFixed(1)}`);
    if (points.length < 2) return null;
    const area = `${x(times[0]).toFixed(1)},${y(0)} ${points.join(" ")} ${x(newest).toFixed(1)},${y(0)}`;
    return [s("polygon", { class: `area ${kind}`, points: area }), s("polyline", { class: `line ${kind}`, points: points.join(" ") })];
  });
  const words = series.map(({ label, values }) => `${label} now ${format(values.at(-1) ?? 0)}, at most ${format(Math.max(0, ...values))}`);
  const summary = newest ? `${title}, the ${seconds === 3600 ? "hour" : "ten minutes"} until ${clock(newest * 1000)}: ${words.join("; ")}` : `${title}: nothing yet`;
  return h("figure", { class: "chart" },
    h("figcaption", {}, h("span", { class: "chart-title" }, title), series.map(({ label, kind }) => h("span", { class: `key ${kind}` }, label))),
    s("svg", { width: wide, height, viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": summary }, grid, ticks,
      s("text", { class: "axis", x: wide - 8, y: height - 4, "text-anchor": "end" }, "now"), drawn,
      most === 0 ? s("text", { class: "axis", x: (wide + left) / 2, y: height / 2, "text-anchor": "middle" }, newest ? "nothing has moved" : "the first sample comes after ten seconds") : null));
}

/** Seconds that are drawn: an hour, ten minutes while there is no more than that. */
const window = (times) => (times.length > 1 && times.at(-1) - times[0] > 580 ? 3600 : 600);

function axis(x, now, seconds, y) {
  return [1, 0.75, 0.5, 0.25].map((part) => s("text", { class: "axis", x: x(now - part * seconds), y, "text-anchor": part === 1 ? "start" : "middle" }, `-${(part * seconds) / 60} min`));
}

/** The next size that reads well. */
function roundBinary(most) {
  return most <= 0 ? 0 : 2 ** Math.ceil(Math.log2(most));
}

/** The next number that reads well. */
function round(most) {
  if (most <= 0) return 0;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 2.5, 5, 10].map((step) => step * power).find((step) => step >= most) ?? most;
}

/** Epochs: commits of the past hour as bars, open epochs as bands that begin when they were opened. */
export function epochs(times, committed, open, now) {
  const wide = width();
  const [left, top, body, lane] = [58, 10, 64, 18];
  const seconds = window(times);
  const height = top + body + 22 + open.length * lane;
  const most = Math.max(1, ...committed);
  const x = (time) => left + Math.max(0, (time - (now - seconds)) / seconds) * (wide - left - 8);
  const bars = committed.map((number, index) => {
    const tall = (number / most) * body;
    return number > 0 ? s("rect", { class: "commit", x: x(times[index] - 10).toFixed(1), y: (top + body - tall).toFixed(1), width: Math.max(1.2, ((wide - left) * 10) / seconds - 1).toFixed(1), height: tall.toFixed(1) }) : null;
  });
  const bands = open.map(({ label, seconds: since }, index) => {
    const [from, y] = [x(now - since), top + body + 22 + index * lane];
    const isEarly = from < wide - 260;
    return [s("rect", { class: "open-epoch", x: from.toFixed(1), y: y + 4, width: Math.max(3, wide - 8 - from).toFixed(1), height: 8, rx: 2 }),
      s("text", { class: "axis strong", x: isEarly ? from + 4 : from - 6, y: y + (isEarly ? 2 : 12), "text-anchor": isEarly ? "start" : "end" }, label)];
  });
  const total = committed.reduce((sum, number) => sum + number, 0);
  const label = `Epochs of the past ${seconds === 3600 ? "hour" : "ten minutes"}: ${total} committed, at most ${most} within ten seconds; ${open.length} open`;
  return s("svg", { width: wide, height, viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": label },
    s("line", { class: "grid", x1: left, x2: wide - 8, y1: top + body, y2: top + body }),
    s("text", { class: "axis", x: left - 8, y: top + 8, "text-anchor": "end" }, total > 0 ? `${most}/10 s` : ""),
    axis(x, now, seconds, top + body + 15),
    s("text", { class: "axis", x: wide - 8, y: top + body + 15, "text-anchor": "end" }, "now"), bars, bands);
}
