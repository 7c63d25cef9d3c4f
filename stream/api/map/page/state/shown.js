// Which fleet is shown: the live one, the live one as it stood when it was paused, or a past one; and for which box the
// server is asked.

import { boxText, contains, padded } from "../drawing/geometry.js";
import { Fleet } from "./fleet.js";
import { ask } from "./link.js";
import { PastFleet, settled } from "./past.js";

const WORLD = [-180, -90, 180, 90];
const AROUND = 0.5; // of each side of the view: to move a little needs no other stream
const QUESTION_MS = 120; // between two questions about the past, while the time bar is moved
const TOO_LARGE = 8; // the stream's box may be so many times as large as the view before a smaller one is asked

const area = ([west, south, east, north]) => (east - west) * (north - south);

export class Shown {
  /** `changed` is called when the server has told of the past. */
  constructor(camera, still, changed) {
    this._camera = camera;
    this._still = still;
    this._changed = changed;
    this.live = new Fleet();
    this.live.still = still.matches;
    still.addEventListener("change", () => {
      this.live.still = still.matches;
    });
    this.fleet = this.live;
    this._box = null;
    this._wantedMs = null; // of the past; null while that is not shown
    this._pastMs = null; // what is shown of it now, on the way to that
    this._steppedAt = 0;
    this._wish = 0; // the number of the last wish, which is more than that of what was asked while one is open
    this._isAsking = false;
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

  /** Whether another chosen entity needs another stream: one of all has it, and the first one will. */
  needsChosen() {
    return this._box !== null && !(this._box === WORLD && this.live.more === 0);
  }

  /** Shows all entities, and follows them until somebody moves the map. */
  showAll() {
    this._camera.fitting = true;
    this._box = null;
    this._camera.map.jumpTo({ center: [0, 25], zoom: 1.4 });
  }

  /** The time of the past that is drawn now, on the way to the one that is wanted. */
  get pastMs() {
    return this._pastMs;
  }

  goLive() {
    this._leavePast();
    this.fleet = this.live;
  }

  freeze(at) {
    this._leavePast();
    this.fleet = this.fleet.frozen(at);
  }

  _leavePast() {
    this._wish += 1;
    [this._wantedMs, this._pastMs] = [null, null];
  }

  /** Shows the fleet at a time; from `nowMs`, if it was live. It glides there along the pings that are known. */
  goBack(atMs, nowMs) {
    this._wish += 1;
    this._wantedMs = atMs;
    this._pastMs ??= nowMs;
    if (!this._isAsking) this._askUntilTold();
  }

  /** One question after the other, each for the newest wish: an answer for thousands takes its time. */
  async _askUntilTold() {
    this._isAsking = true;
    for (let told = null; this._wantedMs !== null && told !== this._wish; ) {
      told = this._wish;
      await this._askPast(this._wantedMs);
      if (told !== this._wish) await new Promise((done) => setTimeout(done, QUESTION_MS));
    }
    this._isAsking = false;
  }

  async _askPast(atMs) {
    const box = boxText(padded(this._camera.box(), AROUND));
    let said = null;
    try {
      said = await ask(`map/history?bbox=${box}&at=${Math.round(atMs)}`);
    } catch {
      return; // what is shown stays; the connection's own line says why
    }
    if (said === null || this._wantedMs === null) return;
    const past = new PastFleet(said, atMs, this._pastMs);
    for (const [key, fill] of this.live.fills) if (fill.to_ts <= atMs) past.fills.set(key, fill);
    this.fleet = past;
    this._changed();
  }

  /** In each frame: goes on to the time that is wanted. Returns whether anything moved. */
  step(at) {
    const passedMs = at - this._steppedAt;
    this._steppedAt = at;
    if (this._wantedMs === null || !(this.fleet instanceof PastFleet) || this._pastMs === this._wantedMs) return false;
    this._pastMs = this._still.matches ? this._wantedMs : settled(this._pastMs, this._wantedMs, passedMs);
    this.fleet.seek(this._pastMs);
    return true;
  }
}
