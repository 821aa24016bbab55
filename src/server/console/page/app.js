// The page: which view is shown, how often it looks, and what it says to those who do not see it.

import { get, Refused } from "./api.js";
import { h, show } from "./dom.js";
import { clock } from "./format.js";
import * as overview from "./overview.js";
import * as settings from "./settings.js";
import * as stream from "./stream.js";
import * as streams from "./streams.js";

const INTERVAL = 2000;
const VIEWS = { "": overview, streams, stream, configuration: settings.configuration, health: settings.health };

const element = (id) => document.getElementById(id);
const content = element("content");
let route = read();
let looking = new AbortController();
let timer = 0;
let paused = false;
let last = null;
let levels = new Map();

/** `#/stream/NAME/TAB?key=value`. */
function read() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const parts = path.split("/").map(decode);
  return { view: VIEWS[parts[0]] ? parts[0] : "", parts: parts.slice(1), query: Object.fromEntries(new URLSearchParams(query)) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

async function look() {
  clearTimeout(timer);
  looking.abort();
  looking = new AbortController();
  const { signal } = looking;
  const at = route;
  const view = VIEWS[at.view];
  try {
    const data = await view.load(at, (path, parameters) => get(path, parameters, signal));
    if (signal.aborted) return;
    last = { data, at };
    draw();
    trouble(null);
    announce(view.levels?.(data) ?? []);
    if (data.at) element("looked").textContent = `as of ${clock(data.at)}`;
  } catch (error) {
    if (signal.aborted) return;
    refused(error, at);
  }
  if (!paused && view.polls !== false) timer = setTimeout(look, INTERVAL);
}

function draw() {
  if (!last || last.at !== route) return;
  const { title, nodes } = VIEWS[route.view].render(last.data, route);
  document.title = title === "bowstring" ? title : `${title} – bowstring`;
  show(content, nodes);
  content.removeAttribute("aria-busy");
}

function refused(error, at) {
  const text = error instanceof Refused ? error.message : "the coordinator does not answer; trying again";
  if (last?.at === at || !(error instanceof Refused)) trouble(text);
  else show(content, [h("h1", { tabindex: "-1" }, "This cannot be shown"), h("p", {}, text)]);
  content.removeAttribute("aria-busy");
}

function trouble(text) {
  show(element("trouble"), text ? [h("p", {}, text.charAt(0).toUpperCase() + text.slice(1) + ".")] : []);
}

/** Says which streams have come to press since the last look. */
function announce(now) {
  const fresh = new Map(now.map(({ name, level, text }) => [name, { level, text }]));
  const news = [...fresh].filter(([name, { level }]) => level === "blocked" && levels.get(name)?.level !== "blocked");
  const over = [...levels].filter(([name, { level }]) => level === "blocked" && fresh.get(name)?.level !== "blocked");
  levels = fresh;
  const said = [...news.map(([name, { text }]) => `Stream ${name} is blocked: ${text}.`), ...over.map(([name]) => `Stream ${name} is no longer blocked.`)];
  if (said.length > 0) element("said").textContent = said.slice(0, 3).join(" ");
}

function go() {
  if (location.hash === "#content") {
    content.focus();
    return;
  }
  const former = route;
  route = read();
  if (former.view !== route.view) {
    levels = new Map();
    element("said").textContent = "";
  }
  for (const link of element("nav").querySelectorAll("a")) {
    const target = link.getAttribute("href").replace(/^#\/?/, "");
    const isHere = target === route.view || (target === "streams" && route.view === "stream");
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const isNew = former.view !== route.view || former.parts[0] !== route.parts[0];
  if (isNew) {
    show(content, [h("p", { class: "note" }, "Looking …")]);
    content.setAttribute("aria-busy", "true");
    scrollTo(0, 0);
  }
  look().then(() => {
    content.querySelector(".tabs [aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
    if (isNew && former !== route && document.activeElement === document.body) content.querySelector("h1")?.focus({ preventScroll: true });
  });
}

/** Changes a part of the address; the way back leads over it only if `lasting`. */
function change(parameters, lasting) {
  const query = { ...route.query, ...parameters };
  const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined && value !== null);
  const path = [route.view, ...route.parts].map(encodeURIComponent).join("/");
  const hash = `#/${path}${given.length ? `?${new URLSearchParams(given)}` : ""}`;
  if (lasting) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
  go();
}

const THEMES = ["system", "light", "dark"];

function theme(chosen) {
  if (chosen === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", chosen);
  element("theme").textContent = `Theme: ${chosen}`;
  localStorage.setItem("bowstring-theme", chosen);
}

content.addEventListener("input", ({ target }) => {
  if (target.dataset.parameter && target.type === "search") change({ [target.dataset.parameter]: target.value, page: "" }, false);
});
content.addEventListener("change", ({ target }) => {
  if (!target.dataset.parameter || target.type === "search") return;
  const value = target.type === "checkbox" ? (target.checked ? "1" : "") : target.value;
  change({ [target.dataset.parameter]: value, page: "" }, true);
});
content.addEventListener("submit", (submit) => {
  submit.preventDefault();
  change(Object.fromEntries(new FormData(submit.target)), true);
});
content.addEventListener("click", ({ target }) => {
  if (target.closest("[data-again]")) look();
});
element("pause").addEventListener("click", () => {
  paused = !paused;
  element("pause").setAttribute("aria-pressed", String(paused));
  if (paused) clearTimeout(timer);
  else look();
});
element("theme").addEventListener("click", () => {
  const now = localStorage.getItem("bowstring-theme") ?? "system";
  theme(THEMES[(THEMES.indexOf(now) + 1) % THEMES.length]);
});
element("skip").addEventListener("click", (click) => {
  click.preventDefault();
  content.focus();
});
addEventListener("hashchange", go);
addEventListener("popstate", () => {
  if (JSON.stringify(read()) !== JSON.stringify(route)) go();
});
document.addEventListener("visibilitychange", () => {
  if (document.hidden) clearTimeout(timer);
  else if (!paused && VIEWS[route.view].polls !== false) look();
});
let resizing = 0;
addEventListener("resize", () => {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(draw);
});

theme(THEMES.includes(localStorage.getItem("bowstring-theme")) ? localStorage.getItem("bowstring-theme") : "system");
go();
