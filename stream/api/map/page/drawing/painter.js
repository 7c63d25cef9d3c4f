// Draws the fleet over the map in layers: tracks and fills, all of the chosen entity, and the entities themselves.

import { COLOURS } from "./colours.js";
import { drawForecast, drawFormer } from "./forecasts.js";
import { Labels } from "./labels.js";
import { Layer, left, pixelRatio, top, viewOf } from "./layer.js";
import { Sprites } from "./sprites.js";
import { trace, Traces } from "./traces.js";

const MARGIN_PX = 20; // entities so far outside the view are drawn, too
const MANY = 1_500; // entities in view are drawn smaller, so that they cover less of each other
const SMALL = 0.65;
const HALO_PX = 11;
const CONTROLS_MS = 400; // after so long it is seen that the map's controls are elsewhere: the credit line unfolds

export class Painter {
  constructor(map, theme) {
    this.map = map;
    const container = map.getCanvasContainer().parentElement;
    this._traces = new Traces(container);
    this._chosen = new Layer(container, "chosen");
    this._entities = new Layer(container, "entities");
    this._labels = new Labels(container);
    this._container = container;
    this._controls = { boxes: [], dueAt: 0 };
    this._isEmpty = true;
    this.drawn = { regions: 0, passages: 0, branches: 0 }; // of the chosen one
    this.placed = []; // of the last frame: [mover, x, y, time of its ping] of each entity within the view
    this._size = { width: container.clientWidth, height: container.clientHeight };
    // The map sees for itself when its box changes. Told to look in the midst of it, as a panel opens and is still empty,
    // it would keep that size: at the end, the box may be as large as when it last looked.
    map.on("resize", () => {
      this._size = { width: container.clientWidth, height: container.clientHeight };
      this.hurry();
    });
    this.setTheme(theme);
  }

  setTheme(theme) {
    this.colours = COLOURS[theme];
    this._sprites = null;
    this.hurry();
  }

  /** Begins the layer of traces in the next frame, however short ago it was drawn. */
  hurry() {
    this._traces.hurry();
  }

  /** One frame. `scene` has the fleet, the chosen entity's id, its former forecasts and passages, and what else is to be
   * shown. */
  draw(scene, at) {
    const view = viewOf(this.map, this._size);
    this._place(view, scene.fleet, at);
    this._chooseSprites();
    this._traces.step(view, this.placed, scene, this.colours, at);
    const taken = [...this._controlBoxes(at)]; // and boxes of texts: those to come keep clear of them
    this._drawChosen(view, scene, at, taken);
    this._sprites.copy(this._entities, view, this.placed, scene.chosen);
    this._labels.draw(view, this.placed, this.map.getZoom(), scene.ids, taken, at);
  }

  /** The ids that are drawn, each with its box. */
  get labels() {
    return this._labels.shown;
  }

  _chooseSprites() {
    const size = this.placed.length > MANY ? SMALL : 1;
    if (this._sprites?.ratio === pixelRatio() && this._sprites.size === size) return;
    this._sprites = new Sprites(this.colours, pixelRatio(), size);
  }

  _place(view, fleet, at) {
    const placed = [];
    for (const mover of fleet.movers.values()) {
      const x = left(view, mover.shownX(at));
      const y = top(view, mover.shownY(at));
      const outside = x < -MARGIN_PX || y < -MARGIN_PX || x > view.width + MARGIN_PX || y > view.height + MARGIN_PX;
      if (!outside) placed.push([mover, x, y, mover.entity.ts]);
    }
    this.placed = placed;
  }

  /** What buttons, scale, credit line and the line of the tiles' host cover: an id below them could not be read. */
  _controlBoxes(at) {
    if (at < this._controls.dueAt) return this._controls.boxes;
    const map = this._container.getBoundingClientRect();
    const boxes = [...this._container.parentElement.querySelectorAll(".maplibregl-ctrl, #tiles")].map((one) => {
      const box = one.getBoundingClientRect();
      return { left: box.left - map.left, top: box.top - map.top, right: box.right - map.left, bottom: box.bottom - map.top };
    });
    this._controls = { boxes, dueAt: at + CONTROLS_MS };
    return boxes;
  }

  /** Also of one beyond the view: its forecast may reach into it. */
  _drawChosen(view, scene, at, taken) {
    const mover = scene.chosen === null ? undefined : scene.fleet.movers.get(scene.chosen);
    const [x, y] = mover === undefined ? [0, 0] : [left(view, mover.shownX(at)), top(view, mover.shownY(at))];
    this._labels.choose(view, mover, x, y, this.placed, this.colours, taken);
    if (mover === undefined && this._isEmpty) return;
    const context = this._chosen.begin(view);
    this._isEmpty = mover === undefined;
    this.drawn = { regions: 0, passages: 0, branches: 0 };
    if (mover === undefined) return;
    const path = new Path2D();
    trace([path], view, mover, x, y, Infinity);
    context.lineWidth = 2.5;
    context.globalAlpha = 0.85;
    context.strokeStyle = this.colours.accent;
    context.stroke(path);
    context.globalAlpha = 1;
    drawFormer(context, view, scene.former, this.colours);
    const { shares, passages } = scene;
    this.drawn = drawForecast(context, view, mover.entity, x, y, this.colours, { shares, passages, names: scene.names(mover.entity) }, taken);
    context.beginPath();
    context.arc(x, y, HALO_PX, 0, 2 * Math.PI);
    context.lineWidth = 2;
    context.strokeStyle = this.colours.ink;
    context.stroke();
  }

  /** The entity that is shown nearest to this place, if within so many pixels; else the one whose id is there. */
  nearest(x, y, withinPx) {
    let [best, distance] = [null, withinPx];
    for (const [mover, px, py] of this.placed) {
      const away = Math.hypot(px - x, py - y);
      if (away <= distance) [best, distance] = [mover.id, away];
    }
    return best ?? this._labels.at(x, y);
  }
}
