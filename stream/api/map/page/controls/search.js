// The search by id: a box with a list below it (the combobox of the ARIA Authoring Practices).

import { byId, element, idText } from "../panels/dom.js";
import { ask } from "../state/link.js";

const WAIT_MS = 150; // after a key, so that a word is one question

export class Search {
  constructor(choose) {
    this._choose = choose;
    this._box = byId("search");
    this._list = byId("found");
    this._ids = [];
    this._at = -1;
    this._asked = 0;
    this._box.addEventListener("input", () => this._later());
    this._box.addEventListener("keydown", (event) => this._key(event));
    this._box.addEventListener("blur", () => this._close());
    this._list.addEventListener("pointerdown", (event) => {
      const option = event.target.closest("[role=option]");
      event.preventDefault(); // the box keeps the focus until the choice is made
      if (option) this._take(Number(option.dataset.index));
    });
  }

  focus() {
    this._box.focus();
    this._box.select();
  }

  _later() {
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._search(this._box.value.trim()), WAIT_MS);
  }

  async _search(text) {
    this._asked += 1;
    const turn = this._asked;
    let ids = [];
    if (text !== "") {
      try {
        ids = (await ask(`map/search?q=${encodeURIComponent(text)}`))?.ids ?? [];
      } catch {
        return; // the connection's own line says that the server is away
      }
    }
    if (turn === this._asked) this._show(ids, text);
  }

  _show(ids, text) {
    this._ids = ids;
    this._at = ids.length ? 0 : -1;
    const options = ids.map((id, index) =>
      element("li", { role: "option", id: `found-${index}`, "aria-selected": String(index === 0), data: { index } }, idText(id)),
    );
    const none = element("li", { class: "none", role: "option", "aria-disabled": "true", text: "nothing found" });
    this._list.replaceChildren(...(ids.length || text === "" ? options : [none]));
    this._list.hidden = text === "";
    this._box.setAttribute("aria-expanded", String(!this._list.hidden));
    this._mark();
  }

  _mark() {
    [...this._list.children].forEach((option, index) => option.setAttribute("aria-selected", String(index === this._at)));
    if (this._at >= 0) this._box.setAttribute("aria-activedescendant", `found-${this._at}`);
    else this._box.removeAttribute("aria-activedescendant");
    this._list.children[this._at]?.scrollIntoView({ block: "nearest" });
  }

  _key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this._ids.length) {
      event.preventDefault();
      this._at = (this._at + step + this._ids.length) % this._ids.length;
      this._mark();
    } else if (event.key === "Enter") {
      event.preventDefault();
      if (this._at >= 0 && !this._list.hidden) this._take(this._at);
    } else if (event.key === "Escape") {
      if (this._list.hidden) this._box.blur();
      this._close();
      event.stopPropagation();
    }
  }

  _take(index) {
    const id = this._ids[index];
    this._close();
    this._box.value = "";
    this._choose(id);
  }

  _close() {
    clearTimeout(this._timer);
    this._asked += 1; // an answer that is still under way comes too late
    this._ids = [];
    this._at = -1;
    this._list.hidden = true;
    this._box.setAttribute("aria-expanded", "false");
    this._box.removeAttribute("aria-activedescendant");
  }
}
