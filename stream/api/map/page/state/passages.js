// The passages that the chosen entity was compared with, asked for when it has another ping; and for nobody else.

import { mercator } from "../drawing/geometry.js";
import { ask } from "./link.js";

const EVERY_MS = 1_000; // at most: a replay may bring pings many times as fast

export class Passages {
  constructor() {
    this.clear();
  }

  clear() {
    this.version = null; // of the atlas, that the ways are of
    this.ways = []; // {weight, points: [[seconds, x, y], ...]} on the Mercator square
    this._of = null; // the entity's record, whose ways they are, or will be when the answer is there
    this._askedAt = -Infinity;
  }

  /** Takes the newest record of the chosen entity; `now` in ms. */
  async ask(entity, now) {
    if (!entity.passages) this.clear();
    if (!entity.passages || this._of?.ts === entity.ts || now - this._askedAt < EVERY_MS) return;
    [this._of, this._askedAt] = [entity, now];
    const said = await ask(`map/entities/${encodeURIComponent(entity.id)}/passages`).catch(() => null);
    if (this._of !== entity) return; // another one is asked about
    if (said === null) {
      [this.version, this.ways, this._of] = [null, [], null]; // those of an earlier ping are over; asked again soon
      return;
    }
    this.version = said.version;
    this.ways = said.passages.map(([weight, way]) => ({ weight, points: way.map(([s, lat, lon]) => [s, ...mercator(lat, lon)]) }));
  }
}
