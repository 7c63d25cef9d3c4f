// The layer below the entities: their tracks, gap fills, and the forecasts of all. Drawn piece by piece, a few
// milliseconds a frame, on a second canvas that takes the first one's place when it is complete.

import { drawForecastLightly } from "./forecasts.js";
import { mercator } from "./geometry.js";
import { Layer, left, top } from "./layer.js";

const AGES = 5; // a track fades in so many steps
const NEWEST = 0.5; // opacity
const OLDEST = 0.08;
const POINTS = 12_000; // of all tracks together: with more entities in view, each shows less of its track
const LIGHT_FORECASTS = 250; // of more entities in view they would cover the map
const REGIONS = 50; // of more, nobody could tell whose region is whose: only that under the pointer has one
const PIECE = 100; // entities
const FRAME_MS = 6; // of each frame
const REST = 3; // after a layer that took a time, as many times that until the next one begins

/** Adds the way back from (x, y), where the entity is shown, to paths by age. Its newest ping is ahead of that place. */
export function trace(paths, view, mover, x, y, points) {
  const { track } = mover;
  const last = track.length - 2;
  const first = Math.max(0, last - points + 1); // (Infinity points: all)
  let [lastX, lastY] = [x, y];
  for (let i = last; i >= first; i -= 1) {
    const [mx, my] = mercator(track[i][1], track[i][2]);
    const [px, py] = [left(view, mx), top(view, my)];
    const path = paths[Math.min(paths.length - 1, Math.floor(((last - i) / (last - first + 1)) * paths.length))];
    path.moveTo(lastX, lastY);
    path.lineTo(px, py);
    [lastX, lastY] = [px, py];
  }
}

export class Traces {
  constructor(container) {
    this._front = new Layer(container, "below");
    this._back = new Layer(container, "below");
    this._back.canvas.hidden = true;
    this._pieces = null;
    this._dueAt = 0;
  }

  hurry() {
    this._dueAt = 0;
  }

  /** Goes on drawing, or begins anew when that is due; and keeps what is shown in its place. */
  step(view, placed, scene, colours, at) {
    if (this._pieces === null && at >= this._dueAt) {
      this._pieces = this._draw(view, placed, scene, colours);
      this._tookMs = 0;
    }
    if (this._pieces !== null) this._go(at);
    this._front.shift(view);
  }

  _go(at) {
    const begun = performance.now();
    let ended = false;
    while (!ended && performance.now() - begun < FRAME_MS) ended = this._pieces.next().done;
    this._tookMs += performance.now() - begun;
    if (!ended) return;
    this._pieces = null;
    this._dueAt = at + this._tookMs * REST;
    [this._front, this._back] = [this._back, this._front];
    this._front.canvas.hidden = false;
    this._back.canvas.hidden = true;
  }

  *_draw(view, placed, scene, colours) {
    const context = this._back.begin(view);
    context.lineCap = "round";
    context.lineJoin = "round";
    const points = Math.max(2, Math.floor(POINTS / Math.max(1, placed.length)));
    for (let from = 0; from < placed.length; from += PIECE) {
      this._tracks(context, view, placed.slice(from, from + PIECE), points, colours);
      this._back.finish();
      yield;
    }
    this._fills(context, view, scene.fleet.fills.values(), colours);
    if (scene.forecasts && placed.length <= LIGHT_FORECASTS) {
      for (const [mover, x, y] of placed) {
        const wide = placed.length <= REGIONS || mover.id === scene.pointed;
        if (mover.id !== scene.chosen) drawForecastLightly(context, view, mover.entity, x, y, colours, wide);
      }
    }
    this._back.finish();
  }

  /** Stretches of one age are one path for all entities: five strokes instead of thousands. */
  _tracks(context, view, placed, points, colours) {
    const paths = Array.from({ length: AGES }, () => new Path2D());
    for (const [mover, x, y] of placed) trace(paths, view, mover, x, y, points);
    context.lineWidth = 1.6;
    paths.forEach((path, age) => {
      context.strokeStyle = `rgba(${colours.accentText}, ${NEWEST - (NEWEST - OLDEST) * (age / (AGES - 1))})`;
      context.stroke(path);
    });
  }

  /** Final fills have long dashes; provisional ones are dotted and fainter. */
  _fills(context, view, fills, colours) {
    for (const fill of fills) {
      context.lineWidth = 1.8;
      context.strokeStyle = `rgba(${colours.inkText}, ${fill.final ? 0.8 : 0.5})`;
      context.setLineDash(fill.final ? [7, 4] : [1, 5]);
      context.beginPath();
      for (const [, lat, lon] of fill.points) {
        const [x, y] = mercator(lat, lon);
        context.lineTo(left(view, x), top(view, y));
      }
      context.stroke();
      context.setLineDash([]);
    }
  }
}
