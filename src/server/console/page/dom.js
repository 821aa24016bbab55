// Elements made of data. Text goes in as text nodes only: nothing here makes markup of a string.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, String(value));
  }
  for (const child of children.flat(9)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
  return element;
}

/** An HTML element. */
export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

/** Somebody's name: whatever it has in it changes nothing around it. */
export function name(text) {
  return h("bdi", { class: "name" }, visible(text));
}

// What would be invisible, or would turn the text around.
const HIDDEN = /([\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb])/u;

/** A text whose invisible characters are shown by their numbers. */
export function visible(text) {
  const number = (c) => "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
  return String(text).split(HIDDEN).map((part, index) => (index % 2 ? h("span", { class: "control" }, number(part)) : part));
}

/** Makes `target`'s children what `fresh` says and keeps what is the same, so that focus, scrolling and selections stay. */
export function show(target, fresh) {
  patchChildren(target, fresh.flat(9).filter((node) => node !== null && node !== undefined && node !== false));
}

function patchChildren(target, fresh) {
  const nodes = fresh.map((node) => (node instanceof Node ? node : document.createTextNode(String(node))));
  for (let index = 0; index < nodes.length; index += 1) {
    const old = target.childNodes[index];
    if (!old) target.append(nodes[index]);
    else if (isSame(old, nodes[index])) patch(old, nodes[index]);
    else old.replaceWith(nodes[index]);
  }
  while (target.childNodes.length > nodes.length) target.lastChild.remove();
}

function isSame(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && key(old) === key(fresh);
}

function key(node) {
  return node.nodeType === Node.ELEMENT_NODE ? node.getAttribute("data-key") : null;
}

function patch(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes]) {
    // What the reader has opened stays open.
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.nodeName === "INPUT" || old.nodeName === "SELECT") {
    patchChildren(old, [...fresh.childNodes]);
    if (old !== document.activeElement) {
      if (old.type === "checkbox") old.checked = fresh.checked;
      else if (old.value !== fresh.value) old.value = fresh.value;
    }
    return;
  }
  patchChildren(old, [...fresh.childNodes]);
}
