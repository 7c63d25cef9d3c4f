// A small chart of errors by time, in SVG: the forecasts' mean, and that of going straight on (damped velocity). Minutes
// are joined until they have enough cases: one far-off forecast at the beginning would otherwise set the scale of the
// whole chart.

import { svg } from "./dom.js";
import { count, hourMinute, metres } from "./words.js";

const WIDE = 280;
const HIGH = 120;
const LEFT = 52;
const BOTTOM = 18;
const TOP = 8;
const MINUTE_MS = 60_000; // which the server sums errors by
const ENOUGH = 30; // cases of a bin, so that a single one cannot lead its mean
const MOST_BINS = 60; // more of them are a tangle, on so few pixels

const path = (points) => points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");

/** Round numbers from 0 up to at least `most`: the lines behind the curves. */
export function ticks(most) {
  if (!(most > 0)) return [0];
  const step = [1, 2, 5, 10].map((part) => part * 10 ** Math.floor(Math.log10(most / 3))).find((one) => most / one <= 4);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => i * step);
}

/** Joins minutes, the oldest first, until each bin has enough cases: {from, to, n, mean_m, damped_m}. What is left over
 * at the end joins the last bin. */
export function bins(points) {
  const total = points.reduce((sum, point) => sum + point.n, 0);
  const enough = Math.max(ENOUGH, total / MOST_BINS);
  const found = [];
  let open = [];
  const close = () => {
    if (open.reduce((sum, point) => sum + point.n, 0) < enough) return;
    found.push(open);
    open = [];
  };
  for (const point of points) {
    open.push(point);
    close();
  }
  if (found.length) found[found.length - 1].push(...open);
  return found.map(joined);
}

/** Both means are of the minutes whose cases were compared with damped velocity, where these have half as many cases as
 * are enough; else there is none of damped velocity. So one curve is above the other for no reason but its errors. */
function joined(points) {
  const cases = (some) => some.reduce((sum, point) => sum + point.n, 0);
  const compared = points.filter((point) => point.damped_m !== null);
  const isCompared = cases(compared) >= ENOUGH / 2;
  const meant = isCompared ? compared : points;
  const n = cases(meant);
  const mean = (field) => meant.reduce((sum, point) => sum + point[field] * point.n, 0) / n;
  const [from, to] = [points[0].ts, points[points.length - 1].ts + MINUTE_MS];
  return { from, to, n, mean_m: mean("mean_m"), damped_m: isCompared ? mean("damped_m") : null };
}

function axes(marks, y, first, last) {
  const lines = marks.flatMap((mark) => [
    svg("line", { class: "grid", x1: LEFT, x2: WIDE, y1: y(mark), y2: y(mark) }),
    svg("text", { x: LEFT - 6, y: y(mark) + 4, "text-anchor": "end", text: metres(mark) }),
  ]);
  const times = [
    svg("text", { x: LEFT, y: HIGH - 2, text: hourMinute(first) }),
    svg("text", { x: WIDE, y: HIGH - 2, "text-anchor": "end", text: hourMinute(last) }),
  ];
  return [...lines, ...times];
}

/** `points` of one horizon, oldest first: {ts, n, mean_m, damped_m}. */
export function errorChart(points, title) {
  const drawn = bins(points);
  const root = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, role: "img", class: "chart" });
  if (drawn.length < 2) {
    const n = points.reduce((sum, point) => sum + point.n, 0);
    root.setAttribute("aria-label", `${title}: not enough yet to draw`);
    const say = (text, y) => svg("text", { x: WIDE / 2, y, "text-anchor": "middle", text });
    root.append(say("fills as forecasts come true:", HIGH / 2 - 8), say(`${count(n)} of the first ${2 * ENOUGH}`, HIGH / 2 + 8));
    return root;
  }
  const [first, last] = [drawn[0].from, drawn[drawn.length - 1].to];
  const marks = ticks(Math.max(...drawn.map((bin) => Math.max(bin.mean_m, bin.damped_m ?? 0))));
  const x = (bin) => LEFT + (((bin.from + bin.to) / 2 - first) / (last - first)) * (WIDE - LEFT);
  const y = (m) => HIGH - BOTTOM - (m / (marks[marks.length - 1] || 1)) * (HIGH - BOTTOM - TOP);
  const curve = (field, name) => {
    const known = drawn.filter((bin) => bin[field] !== null);
    return svg("path", { class: `curve ${name}`, d: path(known.map((bin) => [x(bin), y(bin[field])])) });
  };
  root.append(...axes(marks, y, first, last), curve("damped_m", "damped"), curve("mean_m", "mean"));
  const [a, b] = [drawn[0], drawn[drawn.length - 1]];
  root.setAttribute("aria-label", `${title}: from ${metres(a.mean_m)} to ${metres(b.mean_m)}; straight on ${metres(b.damped_m)}`);
  return root;
}
