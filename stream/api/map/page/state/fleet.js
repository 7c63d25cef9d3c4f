// What is known of the entities in the box: their newest record, their track, and where each is shown now.
// Knows nothing of the network, the map or the page. Times `at` are milliseconds of performance.now().

import { mercator } from "../drawing/geometry.js";

const TRACK_MS = 600_000; // as long as the server's tracks
const TRACK_POINTS = 60;
const SHORTEST_MOVE_MS = 200; // a stream brings an entity at most five times a second
const LONGEST_MOVE_MS = 3_000; // with pings further apart than this, an entity arrives and waits for the next
const FIRST_MOVE_MS = 1_000; // until two pings have told how far apart they come

/** One entity. It glides from where it was shown to its newest position, in the time that pings have been apart. */
class Mover {
  constructor(entity, track) {
    this.id = entity.id;
    this.track = track;
    this.apartMs = null;
    this.heardAt = null;
    this.beginAt = 0;
    this.endAt = 0;
    this.take(entity);
    [this.fromX, this.fromY] = [this.x, this.y];
  }

  take(entity) {
    this.entity = entity;
    [this.x, this.y] = mercator(entity.lat, entity.lon);
    this.moving = Math.hypot(entity.east_mps ?? 0, entity.north_mps ?? 0) > 0.5;
    this.heading = Math.atan2(entity.east_mps ?? 0, entity.north_mps ?? 0); // clockwise from north
  }

  /** Part of the way that is done at this time: 0..1. */
  done(at) {
    if (at >= this.endAt) return 1;
    return at <= this.beginAt ? 0 : (at - this.beginAt) / (this.endAt - this.beginAt);
  }

  shownX(at) {
    return this.fromX + (this.x - this.fromX) * this.done(at);
  }

  shownY(at) {
    return this.fromY + (this.y - this.fromY) * this.done(at);
  }

  moveTo(entity, at, still) {
    const [fromX, fromY] = [this.shownX(at), this.shownY(at)];
    if (this.heardAt !== null) {
      const apart = at - this.heardAt;
      this.apartMs = this.apartMs === null ? apart : this.apartMs * 0.7 + apart * 0.3;
    }
    this.heardAt = at;
    this.take(entity);
    [this.fromX, this.fromY] = still ? [this.x, this.y] : [fromX, fromY];
    this.beginAt = at;
    this.endAt = at + Math.max(SHORTEST_MOVE_MS, Math.min(LONGEST_MOVE_MS, this.apartMs ?? FIRST_MOVE_MS));
  }

  /** A mover that stays where this one is shown. */
  frozen(at) {
    const copy = Object.assign(Object.create(Mover.prototype), this, { track: this.track.slice() });
    [copy.fromX, copy.fromY] = [this.shownX(at), this.shownY(at)];
    [copy.x, copy.y, copy.endAt] = [copy.fromX, copy.fromY, 0];
    return copy;
  }
}

function extended(track, { ts, lat, lon }) {
  const last = track.length ? track[track.length - 1][0] : -Infinity;
  if (ts < last) return track; // a late ping: the server puts it in its place in the next snapshot
  const kept = ts > last ? track : track.slice(0, -1);
  const since = ts - TRACK_MS;
  const first = Math.max(0, kept.length + 1 - TRACK_POINTS);
  const old = kept.findIndex((point) => point[0] >= since);
  const grown = kept.slice(Math.max(first, old < 0 ? kept.length : old));
  grown.push([ts, lat, lon]);
  return grown;
}

export class Fleet {
  constructor() {
    this.movers = new Map();
    this.fills = new Map();
    this.more = 0;
    this.still = false; // no gliding, for those who asked for less motion
  }

  /** A snapshot: entities that it does not have are gone, and those that were here glide on. */
  replace({ entities, fills = [], more = 0 }, at) {
    const before = this.movers;
    this.movers = new Map();
    for (const entity of entities) {
      const known = before.get(entity.id);
      const track = entity.track ?? [];
      if (known === undefined) {
        this.movers.set(entity.id, new Mover(entity, track));
        continue;
      }
      if (known.entity.ts !== entity.ts) known.moveTo(entity, at, this.still);
      else known.take(entity);
      known.track = track.length ? track : known.track;
      this.movers.set(entity.id, known);
    }
    this.more = more;
    this.fills.clear();
    for (const fill of fills) this.fill(fill);
  }

  update({ updates = [], fills = [], gone = [] }, at) {
    for (const entity of updates) {
      const known = this.movers.get(entity.id);
      if (known === undefined) {
        this.movers.set(entity.id, new Mover(entity, [[entity.ts, entity.lat, entity.lon]]));
        continue;
      }
      if (entity.ts !== known.entity.ts) known.moveTo(entity, at, this.still);
      else known.take(entity);
      known.track = extended(known.track, entity);
    }
    for (const id of gone) this.movers.delete(id);
    for (const fill of fills) this.fill(fill);
    this._forgetOldFills();
  }

  /** A final fill takes the provisional one's place; one without points was retracted. */
  fill(fill) {
    const key = `${fill.from_ts}/${fill.id}`;
    if (fill.points.length) this.fills.set(key, fill);
    else this.fills.delete(key);
  }

  _forgetOldFills() {
    for (const [key, fill] of this.fills) {
      const mover = this.movers.get(fill.id);
      if (mover === undefined || mover.entity.ts - fill.to_ts > TRACK_MS) this.fills.delete(key);
    }
  }

  /** The same fleet as it is shown at this time; it does not change any more. */
  frozen(at) {
    const copy = new Fleet();
    copy.movers = new Map([...this.movers].map(([id, mover]) => [id, mover.frozen(at)]));
    copy.fills = new Map(this.fills);
    copy.more = this.more;
    return copy;
  }
}
