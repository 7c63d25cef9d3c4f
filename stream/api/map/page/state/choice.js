// The chosen entity: its panel, whether the map follows it, and what only it is asked about.

import { byId } from "../panels/dom.js";
import { horizon, percent } from "../panels/words.js";
import { degrees } from "../drawing/geometry.js";
import { ask } from "./link.js";
import { Passages } from "./passages.js";

const DETAIL_EVERY_MS = 3_000;

export class Choice {
  constructor(app, panel) {
    this._app = app;
    this._panel = panel;
    panel.unitChanged(() => this.heard());
    this.id = null;
    this.following = false;
    this.former = [];
    this.detail = null;
    this.passages = new Passages();
    this._follow = byId("follow");
    this._follow.addEventListener("click", () => this.toggleFollow());
    byId("entity-close").addEventListener("click", () => this.clear());
    setInterval(() => this._ask(), DETAIL_EVERY_MS);
    setInterval(() => this.heard(), 1_000); // the age of its last ping
  }

  /** Chooses an entity; with `move` the map goes there, once it is known where that is. */
  choose(id, { move = true } = {}) {
    if (this.id === id && !move) return;
    const { camera } = this._app;
    this.id = id;
    this.former = [];
    this.detail = null;
    this.passages.clear();
    this._app.stops.clear();
    this._goThere = move;
    camera.taken();
    this._panel.open(id);
    this._stream();
    camera.keepInAddress(id);
    this.heard();
    this._ask();
  }

  clear() {
    if (this.id === null) return;
    this.id = null;
    this.former = [];
    this.passages.clear();
    this._app.stops.clear();
    this._setFollowing(false);
    const hadFocus = byId("entity").contains(document.activeElement);
    this._panel.close();
    if (hadFocus) this._app.camera.map.getCanvas().focus(); // what had it is gone
    this._stream();
    this._app.camera.keepInAddress(null);
    this._app.notices.say("Nothing is chosen.");
    this._app.painter.hurry();
  }

  /** The stream has the chosen one, wherever it is. */
  _stream() {
    const { link, shown } = this._app;
    if (shown.needsChosen()) link.open(shown.boxText(), this.id);
  }

  /** The one after the chosen one, in the order of ids in view; so that a keyboard reaches all. */
  step(by) {
    const ids = this._app.painter.placed.map(([mover]) => mover.id).sort();
    if (!ids.length) return;
    const at = ids.indexOf(this.id);
    const next = at < 0 ? (by > 0 ? 0 : ids.length - 1) : (at + by + ids.length) % ids.length;
    this.choose(ids[next], { move: false });
  }

  toggleFollow() {
    if (this.id !== null) this._setFollowing(!this.following);
  }

  _setFollowing(is) {
    this.following = is;
    this._follow.setAttribute("aria-pressed", String(is));
    if (is) this._app.camera.taken();
  }

  /** Something came, or another time is shown: says it anew. */
  heard() {
    const mover = this.id === null ? undefined : this._app.shown.fleet.movers.get(this.id);
    if (mover === undefined) return;
    if (this._goThere) {
      this._goThere = false;
      const [lat, lon] = degrees(mover.x, mover.y);
      this._app.camera.goTo(lat, lon);
    }
    if (this._app.time.mode === "live" && this._app.fleet?.streets) this.passages.ask(mover.entity, performance.now());
    this._panel.show(mover.entity, this._app.time.shownMs, this.drawnPassages.version);
    if (this.detail !== null) this._panel.former(this.formerUntil(this._app.time.atMs));
    this._app.notices.speak(mover.entity, performance.now(), this._panel.unit);
  }

  /** What passages are drawn; of the past nobody is asked. */
  get drawnPassages() {
    return this._app.time.mode === "past" ? { version: null, ways: [] } : this.passages;
  }

  /** What stands beside the places of its branches, one branch after the other: at the end of each its share, and along the
   * largest, how far ahead. Beside its horizons, where it has no branches. */
  names({ horizons, branches = [] }) {
    if (!branches.length) return horizons.map((one) => horizon(one.h_s));
    return branches.flatMap(({ share, positions }, branch) => positions.map(([h_s], i) => {
      if (i === positions.length - 1) return percent(share);
      return branch === 0 ? horizon(h_s) : "";
    }));
  }

  /** Former forecasts that had come true by then (null: now): of the past, those of later are not shown. */
  formerUntil(ms) {
    return ms === null ? this.former : this.former.filter((one) => one.true_ts <= ms);
  }

  async _ask() {
    const { id } = this;
    if (id === null || (this._app.time.mode === "past" && this.detail !== null)) return;
    let said;
    try {
      said = await ask(`map/entities/${encodeURIComponent(id)}`);
    } catch {
      return; // the connection's own line says why; asked again soon
    }
    if (id !== this.id) return;
    if (said === null) {
      this._panel.note("The server does not know this entity (any more).");
      return;
    }
    this._panel.note("");
    this.detail = said;
    this.former = said.former ?? [];
    for (const fill of said.fills ?? []) this._app.shown.live.fill(fill);
    this._panel.detail(said, this._app.time.nowMs);
    this._panel.former(this.formerUntil(this._app.time.atMs));
    this._app.stops.show(said.trip ?? null);
  }
}
