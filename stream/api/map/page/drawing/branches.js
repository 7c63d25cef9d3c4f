// Draws where the passages part that an entity was compared with: its branches, with their shares, and the passages.

import { left, top } from "./layer.js";

const WIDEST_PX = 9; // of a branch that all take
const THINNEST_PX = 2;
const LATE_PX_PER_S = 0.05; // a passage that was there 20 s earlier or later is as far as one that was a pixel away

/** Where a way [[seconds, x, y], ...] was nearest to a place, from a time on: {s, x, y, cost}. Of places that are as near,
 * that counts which it was at about when the place is of: a way may come by twice. */
function nearest(way, fromS, [placeS, placeX, placeY]) {
  let best = null;
  for (let i = 1; i < way.length; i += 1) {
    const [[s0, x0, y0], [s1, x1, y1]] = [way[i - 1], way[i]];
    if (s1 < fromS) continue;
    const [dx, dy] = [x1 - x0, y1 - y0];
    const along = ((placeX - x0) * dx + (placeY - y0) * dy) / (dx * dx + dy * dy || 1);
    const part = Math.max(Math.max(0, (fromS - s0) / (s1 - s0)), Math.min(1, along));
    const [s, x, y] = [s0 + part * (s1 - s0), x0 + part * dx, y0 + part * dy];
    const apart = Math.hypot(x - placeX, y - placeY);
    const cost = apart + LATE_PX_PER_S * Math.abs(s - placeS);
    if (best === null || cost < best.cost) best = { s, x, y, cost };
  }
  return best;
}

/** A line through places [[seconds, x, y], ...], the first of which is where the entity is. From one to the next it goes as
 * that passage did which came nearest to all of them, and straight where none is known for so long. */
export function through(places, ways) {
  const lastS = places[places.length - 1][0];
  let [best, least] = [null, Infinity];
  for (const way of ways) {
    if (way.length < 2 || way[0][0] > 0 || way[way.length - 1][0] < lastS) continue;
    let fromS = 0;
    const beside = places.map((place) => {
      const found = nearest(way, fromS, place);
      fromS = found.s;
      return found;
    });
    const cost = beside.reduce((sum, one) => sum + one.cost, 0);
    if (cost < least) [best, least] = [{ way, beside }, cost];
  }
  return places.flatMap((place, i) => {
    if (i === 0 || best === null) return [place];
    const [from, to] = [best.beside[i - 1], best.beside[i]];
    const [offX, offY] = [places[i - 1][1] - from.x, places[i - 1][2] - from.y];
    const between = best.way.filter(([s]) => s > from.s && s < to.s).map(([s, x, y]) => {
      const part = (s - from.s) / (to.s - from.s);
      return [s, x + offX + (place[1] - to.x - offX) * part, y + offY + (place[2] - to.y - offY) * part];
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
