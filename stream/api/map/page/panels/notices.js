// What people are told of the whole: the line of the connection, the notice over the map while there is nothing to
// show, and what a screen reader is told of the chosen entity.

import { byId } from "./dom.js";
import { clockInZone, sentence } from "./words.js";

const SPEAK_EVERY_MS = 15_000; // more often, a screen reader would not come to an end
const GRACE_MS = 1_500; // a connection that takes no longer than that needs no notice

export class Notices {
  constructor(link) {
    this._kind = "connecting";
    this._retryAt = null;
    this._empty = false;
    this._since = performance.now();
    this._saidAt = -Infinity;
    this._saidOf = null;
    byId("retry").addEventListener("click", () => link.retry());
    byId("token-form").addEventListener("submit", (event) => this._giveToken(event));
    setInterval(() => this._show(), 500);
  }

  connection({ kind, retryAt }) {
    if (kind !== this._kind) this._since = performance.now();
    [this._kind, this._retryAt] = [kind, retryAt];
    this._show();
  }

  /** Whether the server knows no entity at all. */
  empty(is) {
    this._empty = is;
  }

  /** Tells the forecast in words: at once for another entity, else now and then. */
  speak(entity, at, unit) {
    if (entity.id === this._saidOf && at - this._saidAt < SPEAK_EVERY_MS) return;
    [this._saidOf, this._saidAt] = [entity.id, at];
    byId("spoken").textContent = sentence(entity, unit);
  }

  say(text) {
    this._saidOf = null;
    byId("spoken").textContent = text;
  }

  /** The server sets a cookie for the token of the page's address (it cannot be a header of an EventSource). */
  _giveToken(event) {
    event.preventDefault();
    const token = byId("token").value.trim();
    if (token !== "") window.location.assign(`?token=${encodeURIComponent(token)}${window.location.hash}`);
  }

  _show() {
    const mode = document.body.dataset.mode ?? "live";
    const line = { connecting: "connecting", live: mode, away: "not connected", denied: "token missing" }[this._kind];
    const status = byId("status");
    if (status.textContent !== line) status.textContent = line;
    status.dataset.kind = this._kind === "live" ? mode : this._kind;
    const notice = this._notice();
    for (const name of ["away", "connecting", "denied", "empty"]) byId(`notice-${name}`).hidden = notice !== name;
    byId("notice").hidden = notice === null;
    if (notice === "away") byId("retry-in").textContent = this._retryText();
  }

  _notice() {
    if (this._kind === "live") return this._empty ? "empty" : null;
    const isShort = performance.now() - this._since <= GRACE_MS;
    return this._kind === "connecting" && isShort ? null : this._kind;
  }

  _retryText() {
    const left = this._retryAt === null ? 0 : Math.ceil((this._retryAt - performance.now()) / 1000);
    return left > 0 ? `Trying again in ${left} s.` : "Trying now.";
  }
}

/** The line of what is shown when it is not live. */
export function shownAt(mode, ms) {
  return mode === "live" ? "" : `${mode === "past" ? "As it was at" : "Paused at"} ${clockInZone(ms)}`;
}
