// A small chart of errors by time, in SVG: the forecasts' mean and damped velocity's.

import { svg } from "./dom.js";
import { clock, metres } from "./words.js";

const WIDE = 280;
const HIGH = 120;
const LEFT = 44;
const BOTTOM = 18;
const TOP = 8;

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Round numbers from 0 up to at least `most`: the lines behind the curves. */
export function ticks(most) {
  if (!(most > 0)) return [0];
  const step = [1, 2, 5, 10].map((part) => part * 10 ** Math.floor(Math.log10(most / 3))).find((one) => most / one <= 4);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

function axes(marks, y, first, last) {
  const lines = marks.flatMap((mark) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDE, y1: y(mark), y2: y(mark) }),
    svg("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end", text: metres(mark) }),
  ]);
  const times = [
    svg("text", { x: LEFT, y: HIGH - 2, text: clock(first) }),
    svg("text", { x: WIDE, y: HIGH - 2, "text-anchor": "end", text: clock(last) }),
  ];
  return [...lines, ...times];
}

/** `points` of one horizon, oldest first: {ts, mean_m, damped_m}. */
export function errorChart(points, title) {
  const drawn = points.filter((point) => point.mean_m !== null);
  const root = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", class: "chart" });
  if (drawn.length < 2) {
    root.setAttribute("aria-label", `${title}: not enough yet to draw`);
    root.append(svg("text", { x: WIDE / 2, y: HIGH / 2, "text-anchor": "middle", text: "fills as forecasts come true" }));
    return root;
  }
  const [first, last] = [drawn[0].ts, drawn[drawn.length - 1].ts];
  const marks = ticks(Math.max(...drawn.map((point) => Math.max(point.mean_m, point.damped_m ?? 0))));
  const x = (ts) => LEFT + ((ts - first) / Math.max(1, last - first)) * (WIDE - LEFT);
  const y = (m) => HIGH - BOTTOM - (m / (marks[marks.length - 1] || 1)) * (HIGH - BOTTOM - TOP);
  const curve = (field, name) => {
    const known = drawn.filter((point) => point[field] !== null && point[field] !== undefined);
    return svg("path", { class: `curve ${name}`, d: path(known.map((point) => [x(point.ts), y(point[field])])) });
  };
  root.append(...axes(marks, y, first, last), curve("damped_m", "damped"), curve("mean_m", "mean"));
  const [a, b] = [drawn[0], drawn[drawn.length - 1]];
  root.setAttribute("aria-label", `${title}: from ${metres(a.mean_m)} to ${metres(b.mean_m)}; damped velocity ${metres(b.damped_m)}`);
  return root;
}
