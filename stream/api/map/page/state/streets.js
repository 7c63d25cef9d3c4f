// Asks for the fleet's own atlas of what is shown, as the streets of the map; and lets those that a new version has, and
// the one before had not, draw themselves.

import { boxText, contains, padded } from "../drawing/geometry.js";
import { nameOf, inDrawingOrder, streetFeatures } from "../drawing/streets.js";
import { ask } from "./link.js";

const FLOWS = 4_000; // more of them MapLibre still draws, and nobody tells apart
const AROUND = 0.5;
const SMALLER = 3; // in a view so many times smaller than what was asked for, finer flows are worth another question
const WIDEST_DEG = 90; // in a wider view a street is less than a hundredth of a pixel
const GROW_MS = 3_000; // in which new streets draw themselves, however many
const STEP_MS = 100; // each step is a new picture of MapLibre's

export class Streets {
  constructor(camera, still) {
    this._camera = camera;
    this._still = still;
    this._box = null;
    this._version = null; // that the server has
    this._known = new Set(); // ways that need not draw themselves: by their cells
    this._flows = []; // that are drawn, or will be when the growth is over
    this._shown = []; // features of the version before, as long as the next one grows over them
    this._begunAt = null; // of a growth
    this.drawnVersion = null;
    this.drawn = 0;
  }

  get count() {
    return this._flows.length;
  }

  /** The version that the server draws: with a new one, the streets are asked for again. */
  version(version) {
    if (version === this._version) return;
    this._version = version;
    this._box = null;
    this.ask();
  }

  async ask() {
    const view = this._camera.box();
    if (this._version === null || view[2] - view[0] > WIDEST_DEG || this._fits(view)) return;
    this._box = padded(view, AROUND);
    try {
      const said = await ask(`map/atlas?bbox=${boxText(this._box)}&cells=${FLOWS}`);
      if (said !== null) this._take(said);
    } catch {
      this._box = null; // asked again when the map moves or a version comes
    }
  }

  _take(said) {
    const isNew = said.version !== this.drawnVersion;
    if (isNew) {
      this._known = new Set(this._flows.map(nameOf));
      this._shown = streetFeatures(this._flows, this._most);
      this._begunAt = this._still.matches ? null : performance.now();
    }
    this.drawnVersion = said.version;
    [this._flows, this._most] = [said.flows, said.max_count];
    this._fresh = this._begunAt === null ? [] : inDrawingOrder(said.flows.filter((flow) => !this._known.has(nameOf(flow))));
    this._step();
  }

  /** Draws what is due of the growth, and comes again until it is over. */
  _step() {
    clearTimeout(this._timer);
    const part = this._begunAt === null ? 1 : Math.min(1, (performance.now() - this._begunAt) / GROW_MS);
    if (part < 1 && this._fresh.length) {
      const due = this._fresh.slice(0, Math.ceil(part * this._fresh.length));
      this._draw(this._shown.concat(streetFeatures(due, this._most)), this._flows.length - this._fresh.length + due.length);
      this._timer = setTimeout(() => this._step(), STEP_MS);
      return;
    }
    this._begunAt = null;
    this._draw(streetFeatures(this._flows, this._most), this._flows.length);
  }

  _draw(features, count) {
    this.drawn = count;
    this._camera.setStreets({ type: "FeatureCollection", features });
  }

  _fits(view) {
    if (this._box === null || !contains(this._box, view)) return false;
    const sides = this._box[2] - this._box[0];
    return this.count < FLOWS || sides < SMALLER * (view[2] - view[0]) * (1 + 2 * AROUND);
  }

  show(is) {
    for (const layer of ["glow", "streets", "heads"]) {
      this._camera.map.setLayoutProperty(layer, "visibility", is ? "visible" : "none");
    }
  }
}
