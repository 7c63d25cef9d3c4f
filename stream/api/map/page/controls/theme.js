// Light or dark: as the system says, until the switch says otherwise.

import { byId } from "../panels/dom.js";
import { store, stored } from "./keys.js";

const KEPT = "pathcast-theme";

export class Theme {
  constructor(changed) {
    this._changed = changed;
    this._system = window.matchMedia("(prefers-color-scheme: light)");
    this._chosen = stored(KEPT);
    this._system.addEventListener("change", () => this._apply());
    byId("theme").addEventListener("click", () => this.toggle());
    this._apply();
  }

  get name() {
    if (this._chosen === "light" || this._chosen === "dark") return this._chosen;
    return this._system.matches ? "light" : "dark";
  }

  toggle() {
    this._chosen = this.name === "dark" ? "light" : "dark";
    store(KEPT, this._chosen);
    this._apply();
  }

  _apply() {
    const { name } = this;
    document.documentElement.dataset.theme = name;
    byId("theme").setAttribute("aria-pressed", String(name === "light"));
    this._changed?.(name);
  }
}
