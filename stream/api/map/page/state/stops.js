// The stops ahead of the chosen vehicle, on the map and in its panel; and of one of them, who comes next.

import { stopFeatures } from "../drawing/stops.js";
import { byId } from "../panels/dom.js";
import { callTable, tripTable } from "../panels/trip.js";
import { ask } from "./link.js";

const AROUND_PX = 8;

export class Stops {
  /** `choose` chooses a vehicle. */
  constructor(camera, choose) {
    this._camera = camera;
    this.shown = [];
    this.chosen = null; // the id of a stop
    this._text = "null"; // of the trip that the panel shows
    byId("entity-trip").addEventListener("click", ({ target }) => this._open(target.closest("button")?.dataset.stop));
    byId("entity-stop").addEventListener("click", ({ target }) => {
      const id = target.closest("button")?.dataset.id;
      if (id !== undefined) choose(id);
    });
  }

  /** Shows the trip of the chosen vehicle, or none. */
  show(trip) {
    this.shown = trip?.stops ?? [];
    if (this.chosen !== null) this._ask();
    const text = JSON.stringify(trip);
    if (text === this._text) return; // a button that is pressed right now stays where it is
    this._text = text;
    const isOpen = byId("entity-trip").querySelector("details")?.open ?? false;
    const focused = document.activeElement?.dataset?.stop; // what has the focus is made anew
    byId("entity-trip").replaceChildren(...(trip ? tripTable(trip) : []));
    const later = byId("entity-trip").querySelector("details");
    if (later) later.open = isOpen;
    [...byId("entity-trip").querySelectorAll("button")].find((one) => one.dataset.stop === focused)?.focus();
    this._draw();
  }

  clear() {
    this.chosen = null;
    byId("entity-stop").replaceChildren();
    this.show(null);
  }

  /** Opens the stop at a place of the map. Returns whether there is one. */
  openAt({ x, y }) {
    const { map } = this._camera;
    const box = [[x - AROUND_PX, y - AROUND_PX], [x + AROUND_PX, y + AROUND_PX]];
    const found = this.shown.length && map.getLayer("stops") ? map.queryRenderedFeatures(box, { layers: ["stops"] }) : [];
    if (!found.length) return false;
    this._open(found[0].properties.id);
    return true;
  }

  _open(id) {
    if (id === undefined) return;
    this.chosen = id;
    this._draw();
    this._ask();
  }

  _draw() {
    this._camera.setStops(stopFeatures(this.shown, this.chosen));
  }

  async _ask() {
    const id = this.chosen;
    const said = await ask(`map/stops/${encodeURIComponent(id)}`).catch(() => null); // the connection's own line says why
    if (said === null || id !== this.chosen) return;
    byId("entity-stop").replaceChildren(callTable(said));
  }
}
