// Draws ids beside the entities. A text is drawn once, as a small picture, and copied in each frame: an id may be
// anything, and so it cannot reach beyond the height and width of its picture.

import { Layer, pixelRatio } from "./layer.js";
import { arrows, around, isRoom, place, shortened } from "./placing.js";

const FONT = "11.5px system-ui, sans-serif";
const HIGH_PX = 16;
const EDGE_PX = 2; // of the halo around a text
const WIDEST_PX = 150;
const PICTURES = 300; // that are kept: more than are ever in view at once
const AGAIN_MS = 400; // ids that had no room try again so often: more often, they would flicker
const HALO_PX = 13;

export class Labels {
  constructor(container) {
    this._layer = new Layer(container, "labels");
    this._layer.canvas.hidden = true;
    this._pictures = new Map();
    this._look = "";
    this._dueAt = 0;
    this._sides = new Map(); // of the ids that were shown: they stay where they are as long as they can
    this._chosen = null;
    this.shown = []; // of the last frame: {id, text, side, box}
  }

  /** Forgets the pictures of another theme or screen. */
  _begin(colours) {
    const look = `${colours.ink} ${pixelRatio()}`;
    if (look !== this._look) this._pictures.clear();
    this._look = look;
    this._colours = colours;
  }

  /** Finds the chosen one's place, before all others, and adds it and its ring to what is taken. */
  choose(view, mover, x, y, placed, colours, taken) {
    this._begin(colours);
    this._chosen = null;
    if (mover === undefined) return;
    taken.push(around(x, y, HALO_PX));
    if (x < 0 || y < 0 || x > view.width || y > view.height) return;
    const others = arrows(placed.filter(([other]) => other !== mover));
    const [found] = place([{ ...this._text(mover, x, y, true), forced: true }], others.concat(taken.slice(0, -1)), view);
    this._chosen = found;
    taken.push(found.box);
  }

  /** Draws the chosen one's id and, where there is room, those of the others. */
  draw(view, placed, zoom, areWanted, taken, at) {
    const others = areWanted && isRoom(placed.length, zoom) ? this._others(view, placed, taken, at) : [];
    this.shown = this._chosen === null ? others : [this._chosen, ...others];
    this._sides = new Map(this.shown.map((one) => [one.id, one.side]));
    this._layer.canvas.hidden = this.shown.length === 0;
    if (!this.shown.length) return;
    const context = this._layer.begin(view);
    const ratio = pixelRatio();
    for (const { picture, box } of this.shown) {
      const [left, top] = [Math.round(box.left * ratio) / ratio, Math.round(box.top * ratio) / ratio];
      context.drawImage(picture.canvas, left, top, picture.wide, HIGH_PX);
    }
  }

  _others(view, placed, taken, at) {
    const isDue = at >= this._dueAt;
    if (isDue) this._dueAt = at + AGAIN_MS;
    const known = [];
    const fresh = [];
    for (const [mover, x, y] of placed) {
      if (mover.id === this._chosen?.id) continue;
      if (this._sides.has(mover.id)) known.push(this._text(mover, x, y, false));
      else if (isDue) fresh.push(this._text(mover, x, y, false));
    }
    return place(known.concat(fresh), taken.concat(arrows(placed)), view);
  }

  _text(mover, x, y, isChosen) {
    const picture = this._picture(mover.id, isChosen ? "ink" : "label");
    const { text, wide } = picture;
    return { id: mover.id, x, y, text, picture, wide, high: HIGH_PX, side: this._sides.get(mover.id) };
  }

  /** The picture of an id; the ones of longest ago go. */
  _picture(id, colour) {
    const key = `${colour} ${id}`;
    const known = this._pictures.get(key);
    if (known !== undefined) this._pictures.delete(key);
    const picture = known ?? this._drawn(shortened(id), colour);
    this._pictures.set(key, picture);
    if (this._pictures.size > PICTURES) this._pictures.delete(this._pictures.keys().next().value);
    return picture;
  }

  _drawn(text, colour) {
    const ratio = pixelRatio();
    const canvas = document.createElement("canvas");
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const font = `${colour === "ink" ? 700 : 500} ${FONT}`;
    context.font = font;
    const wide = Math.min(WIDEST_PX, Math.ceil(context.measureText(text).width) + 2 * EDGE_PX);
    [canvas.width, canvas.height] = [Math.ceil(wide * ratio), Math.ceil(HIGH_PX * ratio)];
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.font = font; // a canvas of another size has forgotten it
    context.textBaseline = "middle";
    context.lineJoin = "round";
    context.lineWidth = 2 * EDGE_PX;
    context.strokeStyle = this._colours.edge;
    context.strokeText(text, EDGE_PX, HIGH_PX / 2 + 0.5);
    context.fillStyle = this._colours[colour];
    context.fillText(text, EDGE_PX, HIGH_PX / 2 + 0.5);
    return { canvas, text, wide };
  }

  /** Whose id is at this place; null if none is. */
  at(x, y) {
    const within = ({ left, top, right, bottom }) => x >= left && x <= right && y >= top && y <= bottom;
    return this.shown.find(({ box }) => within(box))?.id ?? null;
  }
}
