// The fleet at a time that is over: entities go along the pings that came before and after it, so that it can be moved
// through time without asking the server for each moment. Knows nothing of the network, the map or the page.

import { mercator, unitsPerMetre } from "../drawing/geometry.js";

const SILENCE_MS = 120_000; // of a longer one nobody knows when the entity went on: it waits, and is there at its end
const MOVING_MPS = 0.5;
const SETTLE_MS = 90; // in which most of the way to another time is gone

/** One entity. `known` are its pings around the time that was asked for: [ts, lat, lon], the oldest first. */
class PastMover {
  constructor(entity, known) {
    this.id = entity.id;
    this.entity = entity;
    this._known = known.length ? known : [[entity.ts, entity.lat, entity.lon]];
    this._at = -1;
  }

  /** Goes to where it was at this time of the fleet. */
  seek(ms) {
    const known = this._known;
    let at = Math.max(0, this._at);
    while (at + 1 < known.length && known[at + 1][0] <= ms) at += 1;
    while (at > 0 && known[at][0] > ms) at -= 1;
    if (at !== this._at) this._between(at);
    const part = Math.max(0, Math.min(1, (ms - this._leavesMs) / this._lastsMs));
    this.x = this._from[0] + (this._to[0] - this._from[0]) * part;
    this.y = this._from[1] + (this._to[1] - this._from[1]) * part;
  }

  /** From this ping to the next; the track ends with that one, as a live one ends with the ping that it glides to. */
  _between(at) {
    this._at = at;
    const [ts, lat, lon] = this._known[at];
    const [nextTs, nextLat, nextLon] = this._known[at + 1] ?? this._known[at];
    [this._from, this._to] = [mercator(lat, lon), mercator(nextLat, nextLon)];
    this._lastsMs = Math.max(1, Math.min(SILENCE_MS, nextTs - ts));
    this._leavesMs = nextTs - this._lastsMs;
    const [dx, dy] = [this._to[0] - this._from[0], this._to[1] - this._from[1]];
    this.moving = Math.hypot(dx, dy) / unitsPerMetre(lat) / (this._lastsMs / 1000) > MOVING_MPS;
    this.heading = Math.atan2(dx, -dy);
    this.track = this._known.slice(0, at + 2);
  }

  shownX() {
    return this.x;
  }

  shownY() {
    return this.y;
  }
}

export class PastFleet {
  /** `told` is the server's answer for `toldMs`, and `ms` the time that is shown at first. */
  constructor({ entities, more = 0 }, toldMs, ms) {
    this.toldMs = toldMs;
    this.movers = new Map(entities.map((one) => [one.id, new PastMover(one, [...(one.track ?? []), ...(one.ahead ?? [])])]));
    this.fills = new Map();
    this.more = more;
    this.seek(ms);
  }

  seek(ms) {
    for (const mover of this.movers.values()) mover.seek(ms);
  }
}

/** The time that is shown on the way from one to another, so many milliseconds after it was `shown`. */
export function settled(shown, wanted, passedMs) {
  const left = (wanted - shown) * Math.exp(-passedMs / SETTLE_MS);
  return Math.abs(left) < 20 ? wanted : wanted - left;
}
