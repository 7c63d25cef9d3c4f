// Draws what is forecast of an entity: the branches and the passages that it was compared with or, where none are known,
// the regions and a cone through those of 90 %; the way there; and former forecasts against what then happened.

import { drawBranches, drawPassages, onScreen } from "./branches.js";
import { ellipse, hull, mercator, unitsPerMetre } from "./geometry.js";
import { left, top } from "./layer.js";
import { around, place } from "./placing.js";

const TURN = 2 * Math.PI;
const NAME_PX = 16; // of a horizon's name in height
const DOT_PX = 3.5;
const EDGE_POINTS = 32;
const LARGEST_PX = 20_000; // a region beyond it covers the view anyway, and canvases are slow with such

function placed(view, one) {
  const [x, y] = mercator(one.lat, one.lon);
  return [left(view, x), top(view, y), unitsPerMetre(one.lat) * view.world];
}

/** How opaque a region is filled, as part of what is usual: one that is wider than the view would tint all of it. */
export const opacity = (view, longPx) => Math.min(1, Math.min(view.width, view.height) / 2 / Math.max(1, longPx));

function region(context, view, one, share) {
  const [x, y, pxPerM] = placed(view, one);
  const { longM, shortM, angle } = ellipse(one.cov_m2, share);
  const long = Math.min(LARGEST_PX, longM * pxPerM);
  context.beginPath();
  context.ellipse(x, y, long, Math.min(long, Math.max(0.5, shortM * pxPerM)), -angle, 0, TURN);
  return opacity(view, long);
}

/** Points on the edge of a region, in pixels. */
function edge(view, one, share) {
  const [x, y, pxPerM] = placed(view, one);
  const { longM, shortM, angle } = ellipse(one.cov_m2, share);
  const [long, short] = [Math.min(LARGEST_PX, longM * pxPerM), Math.min(LARGEST_PX, shortM * pxPerM)];
  const [cos, sin] = [Math.cos(angle), Math.sin(angle)];
  return Array.from({ length: EDGE_POINTS }, (_, i) => {
    const [a, b] = [long * Math.cos((i / EDGE_POINTS) * TURN), short * Math.sin((i / EDGE_POINTS) * TURN)];
    return [x + a * cos - b * sin, y - a * sin - b * cos];
  });
}

/** From where it is through the 90 % regions: hulls around one and the next, all of them one shape. */
function cone(context, view, entity, x0, y0, rgb) {
  context.beginPath();
  let before = [[x0, y0]];
  let part = 1;
  for (const one of entity.horizons) {
    const next = edge(view, one, 0.9);
    const [first, ...others] = hull(before.concat(next));
    context.moveTo(...first);
    for (const point of others) context.lineTo(...point);
    context.closePath();
    before = next;
    part = Math.min(part, opacity(view, Math.hypot(next[0][0] - next[EDGE_POINTS / 2][0], next[0][1] - next[EDGE_POINTS / 2][1]) / 2));
  }
  context.fillStyle = `rgba(${rgb}, ${0.09 * part})`;
  context.fill();
}

function way(context, view, entity, x0, y0) {
  context.beginPath();
  context.moveTo(x0, y0);
  for (const one of entity.horizons) {
    const [x, y] = placed(view, one);
    context.lineTo(x, y);
  }
  context.stroke();
}

function regions(context, view, entity, x0, y0, rgb, shares) {
  cone(context, view, entity, x0, y0, rgb);
  context.lineWidth = 1;
  for (const one of entity.horizons) {
    shares.forEach((share) => {
      const part = region(context, view, one, share);
      context.fillStyle = `rgba(${rgb}, ${(share < 0.7 ? 0.1 : 0.03) * part})`;
      context.fill();
      context.strokeStyle = `rgba(${rgb}, ${share < 0.7 ? 0.7 : 0.4})`;
      context.stroke();
    });
  }
}

/** The whole forecast of the chosen entity, which is shown at (x0, y0), and the passages that it was compared with. Names
 * are where `taken` leaves room, and are added to it. Returns what is drawn. */
export function drawForecast(context, view, entity, x0, y0, colours, { shares, names, passages }, taken) {
  const { horizons, branches = [] } = entity;
  const rgb = entity.stale ? colours.staleText : colours.accentText; // of a stale one it is over, or will soon be
  const isCompared = branches.length + passages.length > 0;
  const ways = onScreen(view, passages);
  if (isCompared) drawPassages(context, ways, colours);
  else if (horizons.length) regions(context, view, entity, x0, y0, rgb, shares);
  if (branches.length) {
    const lines = branches.map(({ share, positions }) => ({ share, places: positions.map(([h_s, lat, lon]) => [h_s, ...placed(view, { lat, lon })]) }));
    drawBranches(context, lines, x0, y0, rgb, colours, ways);
    const ends = lines.flatMap(({ places }) => places.map(([, x, y], i) => ({ at: [x, y], forced: i === places.length - 1 })));
    label(context, view, ends, names, colours, rgb, taken);
  } else if (horizons.length) {
    context.strokeStyle = `rgba(${rgb}, 0.9)`;
    context.setLineDash([2, 4]);
    context.lineWidth = 1.5;
    way(context, view, entity, x0, y0);
    context.setLineDash([]);
    label(context, view, horizons.map((one) => ({ at: placed(view, one) })), names, colours, rgb, taken);
  }
  return { regions: isCompared ? 0 : shares.length * horizons.length, passages: passages.length, branches: branches.length };
}

/** Dots at places [x, y], with names where there is room for one; those that are `forced` come first, and are always there. */
function label(context, view, steps, names, colours, rgb, taken) {
  context.font = "600 12px system-ui, sans-serif";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  context.fillStyle = `rgb(${rgb})`;
  for (const { at: [x, y] } of steps) {
    context.beginPath();
    context.arc(x, y, DOT_PX, 0, TURN);
    context.fill();
    taken.push(around(x, y, DOT_PX));
  }
  const texts = steps.map(({ at: [x, y], forced = false }, i) => ({ x, y, forced, name: names[i], wide: context.measureText(names[i]).width, high: NAME_PX }));
  texts.sort((a, b) => b.forced - a.forced);
  context.lineWidth = 3;
  context.strokeStyle = colours.edge;
  context.fillStyle = colours.ink;
  for (const { name, box } of place(texts.filter(({ name }) => name !== ""), taken, view)) {
    context.strokeText(name, box.left, box.top + NAME_PX / 2);
    context.fillText(name, box.left, box.top + NAME_PX / 2);
  }
}

/** Of the others: the way, and if `wide`, the 90 % region of the first horizon. A stale one's is over, or will soon be. */
export function drawForecastLightly(context, view, entity, x0, y0, colours, wide) {
  if (!entity.horizons.length || entity.stale) return;
  context.lineWidth = 1;
  context.strokeStyle = `rgba(${colours.accentText}, 0.35)`;
  if (wide) {
    region(context, view, entity.horizons[0], 0.9);
    context.fillStyle = `rgba(${colours.accentText}, 0.06)`;
    context.fill();
    context.stroke();
  }
  context.setLineDash([2, 4]);
  way(context, view, entity, x0, y0);
  context.setLineDash([]);
}

/** Former forecasts: a ring where the entity was expected, a line to the square where it then was. */
export function drawFormer(context, view, former, colours) {
  context.lineWidth = 1;
  for (const one of former) {
    const [x, y] = placed(view, one);
    const [trueX, trueY] = placed(view, { lat: one.true_lat, lon: one.true_lon });
    context.strokeStyle = `rgba(${colours.inkText}, 0.45)`;
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(trueX, trueY);
    context.stroke();
    context.beginPath();
    context.arc(x, y, 3, 0, TURN);
    context.strokeStyle = `rgba(${colours.inkText}, 0.7)`;
    context.stroke();
    context.fillStyle = colours.ink;
    context.fillRect(trueX - 2, trueY - 2, 4, 4);
  }
}
