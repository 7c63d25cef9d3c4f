// Live, paused, or some time back: the bar below the map.

import { byId } from "../panels/dom.js";
import { clockInZone, duration } from "../panels/words.js";

const REACHED = 0.95; // of the time that the server keeps: it goes on while it is asked, and a replay goes fast
export const STEP_S = 10;

export class TimeBar {
  /** `changed({mode, atMs})`: mode is live, paused (at once) or past. */
  constructor(changed) {
    this._changed = changed;
    this._range = byId("back");
    this._pause = byId("pause");
    this._live = byId("live");
    this._label = byId("time-label");
    this._label.title = Intl.DateTimeFormat().resolvedOptions().timeZone;
    this._nowMs = null;
    this._heardAt = 0;
    this.mode = "live";
    this.atMs = null;
    this._drawn = 0;
    this._isHeld = false; // by a finger or the mouse: then it stays under it
    this._range.addEventListener("pointerdown", () => {
      this._isHeld = true;
    });
    for (const name of ["pointerup", "pointercancel"]) {
      window.addEventListener(name, () => {
        this._isHeld = false;
      });
    }
    this._range.addEventListener("input", () => this._moved(Number(this._range.value)));
    this._pause.addEventListener("click", () => this.toggle());
    this._live.addEventListener("click", () => this.goLive());
    setInterval(() => this._show(), 1_000);
  }

  scrubbable(seconds) {
    this._range.min = String(-Math.floor(seconds * REACHED));
  }

  /** The server's time, as it came just now. */
  setNow(nowMs) {
    this._nowMs = nowMs;
    this._heardAt = performance.now();
    if (this.mode === "live") this._show();
  }

  get nowMs() {
    return this._nowMs === null ? null : this._nowMs + (performance.now() - this._heardAt);
  }

  /** The time that is shown; null before anything came. */
  get shownMs() {
    return this.mode === "live" ? this.nowMs : this.atMs;
  }

  toggle() {
    if (this.mode !== "live") this.goLive();
    else if (this.nowMs !== null) this._set("paused", this.nowMs);
  }

  goLive() {
    this._set("live", null);
  }

  /** So many seconds back (negative) or forth. */
  step(seconds) {
    if (this.nowMs === null) return;
    const back = Math.min(0, ((this.atMs ?? this.nowMs) - this.nowMs) / 1000 + seconds);
    if (back >= 0) this.goLive();
    else this._scrub(Math.max(Number(this._range.min), back));
  }

  /** A pointer moves the thumb to a place. A key moves it from where it was shown, and that is a while ago. */
  _moved(seconds) {
    const isStep = this.mode === "past" && !this._isHeld && seconds < 0;
    this._scrub(isStep ? (this.atMs - this.nowMs) / 1000 + seconds - this._drawn : seconds);
  }

  _scrub(seconds) {
    if (this.nowMs === null) return;
    if (seconds >= 0) {
      this.goLive();
      return;
    }
    this._set("past", this.nowMs + seconds * 1000);
  }

  _set(mode, atMs) {
    [this.mode, this.atMs] = [mode, atMs];
    this._show();
    this._changed({ mode, atMs });
  }

  _show() {
    const backS = this.mode === "live" || this.nowMs === null ? 0 : (this.atMs - this.nowMs) / 1000;
    if (this.mode === "live" || !this._isHeld) this._range.value = String(backS);
    this._drawn = Number(this._range.value); // rounded to its step
    const text = this.mode === "live" ? clockInZone(this.nowMs) : `${clockInZone(this.atMs)}, ${duration(-backS)} ago`;
    this._label.textContent = text;
    this._range.setAttribute("aria-valuetext", this.mode === "live" ? "live" : text);
    this._pause.setAttribute("aria-pressed", String(this.mode !== "live"));
    this._pause.setAttribute("aria-label", this.mode === "live" ? "Pause" : "Go on, live");
    document.body.dataset.mode = this.mode;
    const hadFocus = document.activeElement === this._live;
    this._live.disabled = this.mode === "live";
    if (hadFocus && this._live.disabled) this._pause.focus(); // a button that cannot be pressed has none
  }
}
