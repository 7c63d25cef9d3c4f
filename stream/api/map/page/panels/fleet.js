// The panel of the fleet: what comes and goes, how late, how far off, and what is learnt.

import { errorChart } from "./chart.js";
import { byId, element, figure } from "./dom.js";
import { errorTable } from "./errors.js";
import { count, horizon, millis, percent, rate, version } from "./words.js";

const FIGURES = [
  ["entities", "entities", count],
  ["stale", "stale", count],
  ["pings_s", "pings / s", rate],
  ["forecasts_s", "forecasts / s", rate],
  ["fills_s", "gap fills / s", rate],
  ["rejects_s", "rejects / s", rate],
  ["lag", "pings that wait", count, "that came and have no forecast yet"],
  ["p50_ms", "half answered within", millis, "half of the forecasts came so soon after their ping, or sooner (median)"],
  ["p99_ms", "99 % answered within", millis, "99 of 100 forecasts came so soon after their ping, or sooner"],
  ["rebuilt_share", "history read again", percent, "of how many forecasts nothing was kept of the entity, so that its last pings were read again"],
];

const USUAL = "300"; // seconds ahead, whose errors are drawn until others are chosen

function versionList(kind, counts) {
  const names = Object.entries(counts ?? {}).sort((a, b) => b[1] - a[1]);
  const items = names.map(([name, number]) => element("li", { title: name },
    element("code", { text: version(name) }),
    element("span", { text: count(number) }),
  ));
  const none = element("li", { class: "none", text: "none" });
  return element("div", { class: "versions", data: { versions: kind } },
    element("h3", {}, element("span", { text: `${kind} in use` }), element("span", { text: "entities" })),
    element("ul", {}, ...(items.length ? items : [none])),
  );
}

export class FleetPanel {
  constructor() {
    this._learning = [];
    this._h_s = null;
    this._byHand = false;
    this._choice = byId("learning-horizon");
    this._choice.addEventListener("change", () => {
      [this._h_s, this._byHand] = [this._choice.value, true];
      this._drawLearning();
    });
  }

  show(fleet) {
    byId("fleet-figures").replaceChildren(...FIGURES.map(([field, name, say, title]) => figure(field, name, say(fleet[field]), fleet[field], title)));
    byId("fleet-errors").replaceChildren(errorTable("Errors, last ten minutes", fleet.errors ?? []));
    byId("fleet-versions").replaceChildren(
      versionList("weights", fleet.versions?.weights),
      versionList("atlas", fleet.versions?.atlas),
    );
  }

  showLearning(points) {
    this._learning = points;
    const horizons = [...new Set(points.map((point) => String(point.h_s)))];
    const shown = [...this._choice.options].map((option) => option.value);
    if (horizons.join() !== shown.join()) {
      this._choice.replaceChildren(...horizons.map((one) => element("option", { value: one, text: horizonText(one) })));
      if (!this._byHand || !horizons.includes(this._h_s)) this._h_s = horizons.includes(USUAL) ? USUAL : (horizons[0] ?? null);
      if (this._h_s !== null) this._choice.value = this._h_s;
    }
    this._choice.disabled = horizons.length === 0;
    this._drawLearning();
  }

  _drawLearning() {
    const points = this._learning.filter((point) => String(point.h_s) === this._h_s).sort((a, b) => a.ts - b.ts);
    const ahead = this._h_s === null ? "" : `, ${horizonText(this._h_s)} ahead`;
    byId("learning").replaceChildren(errorChart(points, `Mean error by time${ahead}`));
  }
}

function horizonText(text) {
  const number = Number(text);
  return Number.isFinite(number) ? horizon(number) : horizon(null);
}

/** What the map says of those that it does not show. */
export function more(number) {
  return number > 0 ? `${count(number)} more here: zoom in to see them` : "";
}
