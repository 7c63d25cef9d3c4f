// Draws where the passages part that an entity was compared with: its branches, with their shares, and the passages.

import { left, top } from "./layer.js";

const WIDEST_PX = 9; // of a branch that all take
const THINNEST_PX = 2;

/** Where a way [[seconds, x, y], ...] was at a time, on the straight lines between its points. */
function at(way, seconds) {
  const later = Math.max(1, way.findIndex(([s]) => s >= seconds));
  const [[s0, x0, y0], [s1, x1, y1]] = [way[later - 1], way[later]];
  const part = (seconds - s0) / (s1 - s0);
  return [x0 + (x1 - x0) * part, y0 + (y1 - y0) * part];
}

/** A line through places [[seconds, x, y], ...]. From one to the next it goes as that passage did which was nearest to all
 * of them, and straight where none is known for so long. */
export function through(places, ways) {
  const lastS = places[places.length - 1][0];
  let [best, least] = [null, Infinity];
  for (const way of ways) {
    if (way.length < 2 || way[0][0] > 0 || way[way.length - 1][0] < lastS) continue;
    const apart = places.reduce((sum, [s, x, y]) => sum + Math.hypot(at(way, s)[0] - x, at(way, s)[1] - y), 0);
    if (apart < least) [best, least] = [way, apart];
  }
  const off = ([s, x, y]) => [x - at(best, s)[0], y - at(best, s)[1]];
  return places.flatMap((place, i) => {
    if (i === 0 || best === null) return [place];
    const [[from], [fromX, fromY], [toX, toY]] = [places[i - 1], off(places[i - 1]), off(place)];
    const between = best.filter(([s]) => s > from && s < place[0]).map(([s, x, y]) => {
      const part = (s - from) / (place[0] - from);
      return [s, x + fromX + (toX - fromX) * part, y + fromY + (toY - fromY) * part];
    });
    return [...between, place];
  });
}

function stroke(context, points) {
  context.beginPath();
  for (const [, x, y] of points) context.lineTo(x, y);
  context.stroke();
}

/** Passages with their points in pixels. */
export const onScreen = (view, passages) =>
  passages.map(({ weight, points }) => ({ weight, points: points.map(([s, x, y]) => [s, left(view, x), top(view, y)]) }));

/** Each passage, the fainter the less it counts: dashed up to the entity, and from there on a line. */
export function drawPassages(context, passages, colours) {
  context.lineWidth = 1;
  context.lineJoin = "round";
  for (const { weight, points } of passages) {
    context.strokeStyle = `rgba(${colours.inkText}, ${0.1 + 0.3 * weight})`;
    context.setLineDash([3, 4]);
    stroke(context, points.filter(([s]) => s <= 0));
    context.strokeStyle = `rgba(${colours.inkText}, ${0.15 + 0.5 * weight})`;
    context.setLineDash([]);
    stroke(context, points.filter(([s]) => s >= 0));
  }
}

/** Branches {share, places} of an entity that is shown at (x, y): the wider and the more opaque, the more went there. The
 * largest comes first, so that it covers no other. */
export function drawBranches(context, branches, x, y, rgb, colours, passages) {
  const ways = passages.map((one) => one.points);
  [context.lineJoin, context.lineCap] = ["round", "round"];
  for (const { share, places } of branches) {
    const line = through([[0, x, y], ...places], ways);
    const wide = THINNEST_PX + (WIDEST_PX - THINNEST_PX) * share;
    context.lineWidth = wide + 2;
    context.strokeStyle = colours.edge;
    stroke(context, line);
    context.lineWidth = wide;
    context.strokeStyle = `rgba(${rgb}, ${0.45 + 0.55 * share})`;
    stroke(context, line);
  }
  context.lineCap = "butt";
}
