// The panel of arrivals: each vehicle that is expected somewhere, with its places and times, the soonest first.

import { byId, element, idText } from "./dom.js";
import { count, duration, hourMinute, percent } from "./words.js";

const COLUMNS = [
  ["place", "the name of the destination; below it the chance to be there in time, if it has a time"],
  ["at", "half of the times it is there by then"],
  ["between", "nine times in ten it comes in this time"],
  ["in", "from now on"],
];

function row({ place, eta_ts, early_ts, late_ts, deadline_ts, chance_by_deadline }, nowMs) {
  const leftS = (eta_ts - nowMs) / 1000;
  const by = deadline_ts === null ? [] : [element("small", {
    class: chance_by_deadline < 0.5 ? "late" : null,
    text: `${percent(chance_by_deadline)} by ${hourMinute(deadline_ts)}`,
  })];
  return element("tr", { data: { place } },
    element("th", { scope: "row" }, idText(place), ...by),
    element("td", { text: hourMinute(eta_ts) }),
    element("td", { text: `${hourMinute(early_ts)}–${hourMinute(late_ts)}` }),
    element("td", { text: leftS > 0 ? duration(leftS) : "due" }),
  );
}

const head = () => element("thead", {}, element("tr", {}, ...COLUMNS.map(([text, title]) => element("th", { scope: "col", text, title }))));

/** The places of one entity. */
export function arrivalTable(arrivals, nowMs) {
  return element("table", { data: { table: "arrivals" } },
    element("caption", { text: "Expected at" }), head(), element("tbody", {}, ...arrivals.map((one) => row(one, nowMs))));
}

export class ArrivalsPanel {
  constructor(choose) {
    this._list = byId("arrivals-list");
    this._list.addEventListener("click", ({ target }) => {
      const button = target.closest("button");
      if (button) choose(button.dataset.id);
    });
  }

  show({ entities, more, now_ms: nowMs }) {
    const focused = document.activeElement?.dataset?.id; // what has the focus is made anew
    const bodies = entities.map(({ id, stale, arrivals }) => element("tbody", { class: stale ? "stale" : null },
      element("tr", {}, element("th", { scope: "rowgroup", colspan: 4 }, element("button", { type: "button", class: "who", data: { id } }, idText(id)))),
      ...arrivals.map((one) => row(one, nowMs)),
    ));
    this._list.replaceChildren(head(), ...bodies);
    [...this._list.querySelectorAll("button")].find((one) => one.dataset.id === focused)?.focus();
    this._list.hidden = entities.length === 0;
    byId("arrivals-none").hidden = entities.length > 0;
    byId("arrivals-more").textContent = more > 0 ? `${count(more)} more come later.` : "";
  }
}
