// History as three charts over one axis of time; dragging, or the arrow keys with Enter, zooms.

import { clock, draw, make, number, seconds } from "./dom.js";

const WIDTH = 1000;
const HEIGHT = 100;
const KINDS = [
  { title: "Load", unit: "requests/s", lines: [{ key: "load", name: "load" }], show: (value) => number(value, 1) },
  { title: "Replicas", unit: "pods", step: true, show: (value) => number(value, 0),
    lines: [{ key: "current_replicas", name: "NimbusGuard" }, { key: "hpa_held", name: "the HPA, estimated", class: "other" }] },
  { title: "p95", unit: "", lines: [{ key: "p95_s", name: "p95" }], show: seconds },
];

/** The charts of a history, from one Unix time to another. `zoom(from, until)` is told what to show. */
export function charts(points, from, until, zoom) {
  const span = Math.max(until - from, 1);
  const axis = make("p", { class: "axis quiet", "aria-hidden": "true" }, ...[0, 0.5, 1].map((share) => make("span", {}, clock(from + share * span))));
  return make("div", {}, ...KINDS.map((kind) => chart(kind, points, from, span, zoom)), axis);
}

function chart(kind, points, from, span, zoom) {
  const values = kind.lines.flatMap(({ key }) => points.map((point) => point[key])).filter((value) => value !== null);
  const highest = Math.max(...values, 0) * 1.1 || 1;
  const top = kind.step ? Math.ceil(highest) : highest;
  const x = (point) => ((point.at_s - from) / span) * WIDTH;
  const y = (value) => HEIGHT - (value / top) * HEIGHT;
  const svg = draw("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", tabindex: "0", "data-key": kind.title,
    "aria-label": spoken(kind, points, values) },
    draw("rect", { class: "frame", x: 0, y: 0, width: WIDTH, height: HEIGHT }),
    ...kind.lines.map((line) => draw("path", { class: `line ${line.class ?? ""}`, d: path(points, line.key, x, y, kind.step) })));
  const told = make("p", { class: "quiet", "aria-live": "polite" }, legend(kind, points, top));
  follow(svg, told, kind, points, x, from, span, zoom);
  return make("div", { class: "chart" }, told, svg);
}

function legend(kind, points, top) {
  const names = kind.lines.length > 1 ? ` (${kind.lines.map((line) => `${line.name} ${line.class ? "dashed" : "solid"}`).join(", ")})` : "";
  return `${kind.title}${names}, 0 to ${kind.show(top)} ${kind.unit}`;
}

function spoken(kind, points, values) {
  if (!values.length) return `${kind.title}: nothing recorded in this time`;
  const last = points[points.length - 1][kind.lines[0].key];
  return `${kind.title}: from ${kind.show(Math.min(...values))} to ${kind.show(Math.max(...values))} ${kind.unit}, `
    + `last ${kind.show(last)}. Arrow keys read single decisions; Enter marks the two ends of a zoom.`;
}

function path(points, key, x, y, step) {
  let text = "";
  let before = null;
  for (const point of points) {
    if (point[key] === null) { before = null; continue; }
    const place = `${x(point).toFixed(1)} ${y(point[key]).toFixed(1)}`;
    text += before === null ? `M${place}h0` : step ? `L${x(point).toFixed(1)} ${y(before).toFixed(1)}L${place}` : `L${place}`;
    before = point[key];
  }
  return text;
}

/** Pointer and keys: read a decision, mark two ends, zoom. */
function follow(svg, told, kind, points, x, from, span, zoom) {
  const cursor = draw("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
  const marked = draw("rect", { class: "select", y: 0, height: HEIGHT, visibility: "hidden" });
  svg.append(marked, cursor);
  let index = points.length - 1;
  let start = null;
  const at = (event) => {
    const box = svg.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * WIDTH;
  };
  const place = (end) => {
    marked.setAttribute("visibility", "visible");
    marked.setAttribute("x", Math.min(start, end));
    marked.setAttribute("width", Math.abs(end - start));
  };
  const read = (next) => {
    if (!points.length) return;
    index = Math.min(Math.max(next, 0), points.length - 1);
    const point = points[index];
    cursor.setAttribute("visibility", "visible");
    cursor.setAttribute("x1", x(point));
    cursor.setAttribute("x2", x(point));
    const read_ = kind.lines.map((line) => `${line.name} ${point[line.key] === null ? "unknown" : kind.show(point[line.key])}`);
    told.textContent = `${clock(point.at_s)}: ${read_.join(", ")} ${kind.unit}; ${point.action} by ${point.source}`;
    if (start !== null) place(x(point));
  };
  const finish = (end) => {
    const [low, high] = [Math.min(start, end), Math.max(start, end)];
    start = null;
    marked.setAttribute("visibility", "hidden");
    if (high - low > WIDTH / 100) zoom(from + (low / WIDTH) * span, from + (high / WIDTH) * span);
  };
  svg.addEventListener("pointerdown", (event) => { start = at(event); svg.setPointerCapture(event.pointerId); });
  svg.addEventListener("pointermove", (event) => {
    const here = at(event);
    let nearest = 0;
    points.forEach((point, i) => { if (Math.abs(x(point) - here) < Math.abs(x(points[nearest]) - here)) nearest = i; });
    read(nearest);
    if (start !== null) place(here);
  });
  svg.addEventListener("pointerup", (event) => { if (start !== null) finish(at(event)); });
  svg.addEventListener("pointercancel", () => { start = null; marked.setAttribute("visibility", "hidden"); });
  svg.addEventListener("keydown", (event) => {
    const steps = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: points.length - 1 };
    if (event.key in steps) { read(steps[event.key]); event.preventDefault(); }
    if (event.key === "Escape") { start = null; marked.setAttribute("visibility", "hidden"); }
    if (event.key === "Enter" && points.length) {
      event.preventDefault();
      if (start === null) start = x(points[index]);
      else finish(x(points[index]));
    }
  });
}
