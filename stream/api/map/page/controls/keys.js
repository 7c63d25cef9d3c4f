// Shortcuts: single keys that work wherever no text is typed. They can be switched off, for people whose speech or
// switches type letters.

import { byId, element } from "../panels/dom.js";

const KEPT = "pathcast-keys";

export class Keys {
  /** `shortcuts` has rows of [key, name of the key for people, what it does, function]. */
  constructor(shortcuts) {
    this._shortcuts = new Map(shortcuts.map(([key, , , act]) => [key, act]));
    this._dialog = byId("help");
    this._on = byId("keys-on");
    this._on.checked = stored(KEPT) !== "off";
    this._on.addEventListener("change", () => store(KEPT, this._on.checked ? "on" : "off"));
    const rows = shortcuts.map(([, name, text]) => element("tr", {}, element("th", { scope: "row" }, element("kbd", { text: name })), element("td", { text })));
    byId("shortcuts").replaceChildren(...rows);
    byId("help-close").addEventListener("click", () => this._dialog.close());
    document.addEventListener("keydown", (event) => this._key(event));
  }

  help() {
    if (!this._dialog.open) this._dialog.showModal();
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || this._dialog.open) return;
    const within = event.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    if (within) return;
    if (event.key === " " && event.target.closest?.("button, summary, [type=checkbox]")) return; // presses that button
    if (!this._on.checked && event.key !== "Escape" && event.key !== "?") return;
    const act = this._shortcuts.get(event.key.length === 1 ? event.key.toLowerCase() : event.key);
    if (act === undefined) return;
    event.preventDefault();
    act();
  }
}

/** What this browser keeps between visits; nothing, where storage is forbidden. */
export function stored(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function store(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // the choice holds for this visit
  }
}
