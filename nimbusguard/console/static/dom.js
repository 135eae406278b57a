// Elements and numbers as text. Nothing here ever parses text as HTML.

/** An element with attributes and children; text children stay text. */
export function make(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** The same in SVG. */
export function draw(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

export function number(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value !== 0 && Math.abs(value) < 10 ** -digits) return value.toExponential(1);
  return value.toLocaleString("en", { maximumFractionDigits: Math.abs(value) >= 100 ? 0 : digits });
}

export const seconds = (value) =>
  value === null ? "–" : value < 1 ? `${number(value * 1000, 0)} ms` : `${number(value, 2)} s`;

export const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

export const percent = (value) => (value === null ? "–" : `${number(value * 100, 1)} %`);

export function age(seconds_) {
  const whole = Math.max(Math.round(seconds_), 0);
  if (whole < 120) return `${whole} s ago`;
  return whole < 7200 ? `${Math.round(whole / 60)} min ago` : `${Math.round(whole / 3600)} h ago`;
}

/** A moment by the browser's clock; with its date where that is not today's. */
export function clock(unix) {
  const then = new Date(unix * 1000);
  const time = then.toLocaleTimeString("en-GB");
  return then.toDateString() === new Date().toDateString() ? time : `${then.toLocaleDateString("en-CA")} ${time}`;
}

/** How far the browser's clock is from UTC, which logs are written in. */
export function zone(unix) {
  const minutes = -new Date(unix * 1000).getTimezoneOffset();
  if (minutes === 0) return "UTC";
  const two = (value) => String(Math.trunc(value)).padStart(2, "0");
  return `UTC${minutes < 0 ? "-" : "+"}${two(Math.abs(minutes) / 60)}:${two(Math.abs(minutes) % 60)}`;
}

/** A bar from the middle: to the right what adds, to the left what takes. From 0, a share of the whole width. */
export function bar(share, from = 50) {
  const length = Math.min(Math.abs(share), 1) * (100 - from);
  return draw("svg", { class: "bar", viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" },
    draw("rect", { class: share < 0 ? "minus" : "plus", x: share < 0 ? from - length : from, y: 1, width: length, height: 8 }),
    draw("line", { class: "axis", x1: from, x2: from, y1: 0, y2: 10 }));
}

/** A number with its bar. */
export const measure = (text, drawn) => make("span", { class: "measure" }, make("span", {}, text), drawn);

/**
 * A table with a caption, column heads and rows; the first cell of a row is its head. As `cards` its rows become cards on a phone,
 * where each cell shows its column's head; roles are spelled out, for a table that is laid out otherwise loses its own.
 */
export function table(caption, heads, rows, kind = "") {
  return make("div", { class: `scroll ${kind}`, tabindex: "0", role: "region", "aria-label": caption, "data-key": heads.join() },
    make("table", { role: "table" },
      make("caption", {}, caption),
      make("thead", { role: "rowgroup" }, make("tr", { role: "row" }, ...heads.map((head) => make("th", { scope: "col", role: "columnheader" }, head)))),
      make("tbody", { role: "rowgroup" }, ...rows.map(({ cells, ...attributes }) =>
        make("tr", { role: "row", ...attributes }, ...cells.map((cell, index) =>
          index === 0 ? make("th", { scope: "row", role: "rowheader" }, cell) : make("td", { role: "cell", "data-label": heads[index] }, cell)))))));
}
