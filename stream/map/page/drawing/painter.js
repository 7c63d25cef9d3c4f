// Draws the fleet over the map: below, tracks, gap fills and the forecasts of all, as often as there is time for; above,
// in every frame, the entities and all of the chosen one.

import { COLOURS } from "./colours.js";
import { drawForecast, drawForecastLightly, drawFormer } from "./forecasts.js";
import { mercator } from "./geometry.js";
import { Layer, left, top, viewOf } from "./layer.js";
import { Sprites } from "./sprites.js";

const MARGIN_PX = 20; // entities so far outside the view are drawn, too
const AGES = 5; // a track fades in so many steps
const FADED = 0.08;
const TRACK_POINTS_DRAWN = 12_000; // of all tracks together: with more entities in view, each shows less of its track
const LIGHT_FORECASTS = 250; // of more entities in view they would cover the map
const SHARE_BELOW = 0.25; // of the time; the layer below waits until it has taken less
const SLOWEST_BELOW_MS = 1_000;

export class Painter {
  constructor(map, theme) {
    this.map = map;
    const container = map.getCanvasContainer().parentElement;
    this.below = new Layer(container, "below");
    this.above = new Layer(container, "above");
    this.placed = []; // of the last frame: [mover, x, y] of each entity within the view
    this.setTheme(theme);
    this._belowDueAt = 0;
  }

  setTheme(theme) {
    this.colours = COLOURS[theme];
    this.sprites = new Sprites(this.colours);
    this._belowDueAt = 0;
  }

  /** Draws the layer below in the next frame, whatever it costs. */
  hurry() {
    this._belowDueAt = 0;
  }

  /** One frame. `scene` has the fleet, the chosen entity's id, its former forecasts, and what else is to be shown. */
  draw(scene, at) {
    const view = viewOf(this.map);
    this._place(view, scene.fleet, at);
    if (at >= this._belowDueAt) {
      const begun = performance.now();
      this._drawBelow(view, scene);
      const tookMs = performance.now() - begun;
      this._belowDueAt = at + Math.min(SLOWEST_BELOW_MS, tookMs / SHARE_BELOW);
    } else {
      this.below.shift(view);
    }
    this._drawAbove(view, scene);
  }

  _place(view, fleet, at) {
    const placed = [];
    for (const mover of fleet.movers.values()) {
      const x = left(view, mover.shownX(at));
      const y = top(view, mover.shownY(at));
      const outside = x < -MARGIN_PX || y < -MARGIN_PX || x > view.width + MARGIN_PX || y > view.height + MARGIN_PX;
      if (!outside) placed.push([mover, x, y]);
    }
    this.placed = placed;
  }

  _drawBelow(view, scene) {
    const context = this.below.begin(view);
    context.lineCap = "round";
    context.lineJoin = "round";
    const points = Math.max(2, Math.floor(TRACK_POINTS_DRAWN / Math.max(1, this.placed.length)));
    this._drawTracks(context, view, points);
    this._drawFills(context, view, scene.fleet.fills.values());
    if (scene.forecasts && this.placed.length <= LIGHT_FORECASTS) {
      for (const [mover, x, y] of this.placed) {
        if (mover.id !== scene.chosen) drawForecastLightly(context, view, mover.entity, x, y, this.colours);
      }
    }
  }

  /** Pieces of one age are one path for all entities: five strokes instead of thousands. */
  _drawTracks(context, view, points) {
    const ages = Array.from({ length: AGES }, () => new Path2D());
    for (const [mover, x, y] of this.placed) this._track(ages, view, mover, x, y, points);
    context.lineWidth = 1.6;
    ages.forEach((path, age) => {
      context.strokeStyle = `rgba(${this.colours.accentText}, ${0.5 - (0.5 - FADED) * (age / (AGES - 1))})`;
      context.stroke(path);
    });
  }

  _track(ages, view, mover, x, y, points) {
    const { track } = mover;
    const first = Math.max(0, track.length - 1 - points);
    let [lastX, lastY] = [x, y]; // where it is shown; its newest ping is ahead of that
    for (let i = track.length - 2; i >= first; i -= 1) {
      const [mx, my] = mercator(track[i][1], track[i][2]);
      const [px, py] = [left(view, mx), top(view, my)];
      const age = Math.min(AGES - 1, Math.floor(((track.length - 2 - i) / Math.max(1, track.length - 1 - first)) * AGES));
      ages[age].moveTo(lastX, lastY);
      ages[age].lineTo(px, py);
      [lastX, lastY] = [px, py];
    }
  }

  /** Final fills have long dashes and their points; provisional ones are dotted and fainter. */
  _drawFills(context, view, fills) {
    for (const fill of fills) {
      const path = fill.points.map(([, lat, lon]) => mercator(lat, lon)).map(([x, y]) => [left(view, x), top(view, y)]);
      context.lineWidth = 1.8;
      context.strokeStyle = `rgba(${this.colours.inkText}, ${fill.final ? 0.8 : 0.5})`;
      context.setLineDash(fill.final ? [7, 4] : [1, 5]);
      context.beginPath();
      for (const [x, y] of path) context.lineTo(x, y);
      context.stroke();
      context.setLineDash([]);
    }
  }

  _drawAbove(view, scene) {
    const context = this.above.begin(view);
    const chosen = this.placed.find(([mover]) => mover.id === scene.chosen) ?? this._outside(view, scene);
    if (chosen) this._drawChosenBelow(context, view, scene, chosen);
    for (const [mover, x, y] of this.placed) this.sprites.put(context, mover, x, y);
    if (chosen) this._drawHalo(context, chosen);
  }

  /** The chosen entity beyond the view: its forecast may reach into it. */
  _outside(view, scene) {
    const mover = scene.chosen === null ? undefined : scene.fleet.movers.get(scene.chosen);
    return mover && [mover, left(view, mover.x), top(view, mover.y)];
  }

  _drawChosenBelow(context, view, scene, [mover, x, y]) {
    context.lineWidth = 2.5;
    context.strokeStyle = this.colours.accent;
    context.globalAlpha = 0.85;
    const path = new Path2D();
    this._track(Array(AGES).fill(path), view, mover, x, y, Infinity); // all ages alike
    context.stroke(path);
    context.globalAlpha = 1;
    if (scene.former.length) drawFormer(context, view, scene.former, this.colours);
    drawForecast(context, view, mover.entity, x, y, this.colours, scene.shares, scene.names(mover.entity));
  }

  _drawHalo(context, [mover, x, y]) {
    context.beginPath();
    context.arc(x, y, 11, 0, 2 * Math.PI);
    context.lineWidth = 2;
    context.strokeStyle = this.colours.ink;
    context.stroke();
    this.sprites.put(context, mover, x, y);
  }

  /** The entity that is shown nearest to this place, if within so many pixels. */
  nearest(x, y, withinPx) {
    let [best, distance] = [null, withinPx];
    for (const [mover, px, py] of this.placed) {
      const away = Math.hypot(px - x, py - y);
      if (away <= distance) [best, distance] = [mover.id, away];
    }
    return best;
  }
}
