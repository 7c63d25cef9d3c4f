// Asks for the fleet's own atlas of what is shown, as the streets of the map.

import { boxText, contains, padded } from "../drawing/geometry.js";
import { streetFeatures } from "../drawing/basemap.js";
import { ask } from "./link.js";

const FLOWS = 4_000; // more of them MapLibre still draws, and nobody tells apart
const AROUND = 0.5;
const SMALLER = 3; // in a view so many times smaller than what was asked for, finer flows are worth another question

export class Streets {
  constructor(camera, has) {
    this._camera = camera;
    this.has = has;
    this.count = 0;
    this._box = null;
    this._version = null;
    this._shown = true;
  }

  /** The atlas versions that forecasts name: with a new one, the streets are asked for again. */
  version(counts) {
    const newest = Object.keys(counts ?? {}).sort().join();
    if (newest === this._version) return;
    this._version = newest;
    this._box = null;
    if (newest !== "") this.has = true;
    this.ask();
  }

  async ask() {
    const view = this._camera.box();
    if (!this.has || this._fits(view)) return;
    this._box = padded(view, AROUND);
    try {
      const said = await ask(`v1/atlas?bbox=${boxText(this._box)}&cells=${FLOWS}`);
      if (said === null) return;
      this.count = said.flows.length;
      this._camera.setStreets(streetFeatures(said));
    } catch {
      this._box = null; // asked again when the map moves or a version comes
    }
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
