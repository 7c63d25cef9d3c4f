// Which fleet is shown: the live one, the live one as it stood when it was paused, or a past one; and for which box the
// server is asked.

import { boxText, contains, padded } from "../drawing/geometry.js";
import { Fleet } from "./fleet.js";
import { ask } from "./link.js";

const WORLD = [-180, -90, 180, 90];
const AROUND = 0.5; // of each side of the view: to move a little needs no other stream
const TOO_LARGE = 8; // the stream's box may be so many times as large as the view before a smaller one is asked

const area = ([west, south, east, north]) => (east - west) * (north - south);

export class Shown {
  constructor(camera, still) {
    this._camera = camera;
    this.live = new Fleet();
    this.live.still = still.matches;
    still.addEventListener("change", () => {
      this.live.still = still.matches;
    });
    this.fleet = this.live;
    this._box = null;
    this._asked = 0;
  }

  /** Whether the present stream is for another box than what is shown needs; if so, what is asked next is for that. */
  needsBox() {
    const view = this._camera.box();
    const fits = this._box !== null && (contains(this._box, view) || this._box === WORLD);
    const loose = this._box !== null && area(this._box) > TOO_LARGE * area(padded(view, AROUND));
    if (fits && !(loose && (this._box !== WORLD || this.live.more > 0))) return false;
    this._box = this._camera.fitting ? WORLD : padded(view, AROUND);
    return true;
  }

  boxText() {
    return boxText(this._box ?? WORLD);
  }

  /** Whether the stream has every entity of the fleet. */
  hasAll() {
    return this._box === WORLD && this.live.more === 0;
  }

  /** Shows all entities, and follows them until somebody moves the map. */
  showAll() {
    this._camera.fitting = true;
    this._box = null;
    this._camera.map.jumpTo({ center: [0, 25], zoom: 1.4 });
  }

  goLive() {
    this._asked += 1;
    this.fleet = this.live;
  }

  freeze(at) {
    this._asked += 1;
    this.fleet = this.fleet.frozen(at);
  }

  async goBack(atMs) {
    this._asked += 1;
    const turn = this._asked;
    const box = boxText(padded(this._camera.box(), AROUND));
    let said = null;
    try {
      said = await ask(`v1/history?bbox=${box}&at=${Math.round(atMs)}`);
    } catch {
      return; // what is shown stays; the connection's own line says why
    }
    if (said === null || turn !== this._asked) return;
    const past = new Fleet();
    past.replace(said, 0);
    for (const fill of this.live.fills.values()) if (fill.to_ts <= atMs) past.fill(fill);
    this.fleet = past;
  }
}
