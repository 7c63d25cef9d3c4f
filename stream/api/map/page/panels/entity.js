// The panel of the chosen entity.

import { bearing } from "../drawing/geometry.js";
import { store, stored } from "../controls/keys.js";
import { arrivalTable } from "./arrivals.js";
import { byId, element, figure, idText, table } from "./dom.js";
import { errorTable } from "./errors.js";
import { clock, compass, count, duration, expected, horizon, known, metres, millis, percent, place, reach, speed, SPEEDS, version } from "./words.js";

const STATUS = {
  ok: "ok",
  warmup: "warming up: fewer than eight pings",
  stale: "its last ping came late",
  fallback_cv: "as if it went straight on: the model has no answer",
};
const CACHE = { hit: "known", rebuilt: "read again", none: "none: it is new", unread: "could not be read" };
const KEPT = "pathcast-speed";

const FORECAST = [
  ["ahead", (row) => horizon(row.one.h_s), "how far ahead"],
  ["distance", (row) => metres(row.farM), "from its newest ping"],
  ["towards", (row) => (row.farM < 1 ? "here" : compass(row.degrees)), "direction"],
  ["90 % within", (row) => metres(row.within90M), "the longer half axis of the 90 % region"],
];
const BRANCHES = [
  ["share", (row) => percent(row.share), "how many of the passages went there"],
  ["until", (row) => horizon(row.h_s), "how far ahead that is known"],
  ["distance", (row) => metres(row.farM), "from its newest ping"],
  ["towards", (row) => compass(row.degrees), "direction"],
];
const FORMER = [
  ["from", (row) => clock(row.at), "the ping that the forecast starts from"],
  ["ahead", (row) => horizon(row.h_s), "how far ahead"],
  ["error", (row) => metres(row.error_m), "between forecast and what happened"],
  ["straight on", (row) => metres(row.damped_m), "the error if it had gone straight on, ever more slowly (damped velocity)"],
];
const FILLS = [
  ["from", (row) => clock(row.from_ts), "the last ping before the silence"],
  ["for", (row) => duration((row.to_ts - row.from_ts) / 1000), "how long"],
  ["state", (row) => (row.final ? "final" : "provisional"), "a provisional one may still change"],
];

function nowFigures(entity, nowMs, unit) {
  const mps = entity.east_mps === null ? null : Math.hypot(entity.east_mps, entity.north_mps);
  const course = mps === null || mps < 0.5 ? null : bearing(entity.east_mps, entity.north_mps);
  const ageMs = nowMs === null ? null : Math.max(0, nowMs - entity.ts);
  return [
    figure("speed", "speed", speed(mps, unit), mps),
    figure("course", "course", known(course, (degrees) => `${compass(degrees)}, ${Math.round(degrees)}°`), course),
    figure("ts", `last ping, ${clock(entity.ts)}`, known(ageMs, (ms) => `${duration(ms / 1000)} ago`), entity.ts),
    figure("next", "next ping", expected(entity.next?.dt_s ?? null, ageMs), entity.next?.dt_s),
    figure("place", "latitude, longitude", place(entity.lat, entity.lon), `${entity.lat},${entity.lon}`),
  ];
}

function modelFigures(entity) {
  return [
    figure("status", "status", STATUS[entity.status] ?? entity.status, entity.status),
    figure("cache", "its history", CACHE[entity.cache] ?? entity.cache, entity.cache),
    figure("weights", "weights", version(entity.weights), entity.weights),
    figure("atlas", "atlas", version(entity.atlas), entity.atlas),
    figure("latency", "ping to forecast", millis(entity.latency_ms), entity.latency_ms),
  ];
}

/** Where the passages part that the forecast rests on. There are no branches either where they scatter. */
function branchTable(entity) {
  const { branches = [], passages } = entity;
  if (!branches.length) {
    const text = passages === 1 ? "One passage came this way." : `${count(passages)} passages came the same way; they do not part into a few ways.`;
    return element("p", { class: "none", text });
  }
  const rows = branches.map(({ share, positions }) => {
    const [h_s, lat, lon] = positions[positions.length - 1];
    return { share, h_s, ...reach(entity, { lat, lon }) };
  });
  return table(`Where ${count(passages)} passages went from here`, BRANCHES, rows, "branches");
}

export class EntityPanel {
  constructor() {
    this._panel = byId("entity");
    this._id = null;
    this._units = byId("speed-unit");
    this._units.replaceChildren(...Object.keys(SPEEDS).map((unit) => element("option", { value: unit, text: unit })));
    if (Object.hasOwn(SPEEDS, stored(KEPT))) this._units.value = stored(KEPT);
  }

  /** In which speeds are told. */
  get unit() {
    return this._units.value;
  }

  unitChanged(changed) {
    this._units.addEventListener("change", () => {
      store(KEPT, this.unit);
      changed();
    });
  }

  /** Opens the panel for this id; what is known of it comes with `show` and `detail`. */
  open(id) {
    this._id = id;
    byId("entity-name").replaceChildren(idText(id));
    for (const part of ["now", "forecast", "arrivals", "branches", "errors", "model", "former", "fills"]) byId(`entity-${part}`).replaceChildren();
    byId("entity-note").textContent = "";
    this._panel.hidden = false;
  }

  close() {
    this._id = null;
    this._panel.hidden = true;
  }

  note(text) {
    byId("entity-note").textContent = text;
  }

  /** `drawnAtlas` is the version of whose passages some are drawn, or null. */
  show(entity, nowMs, drawnAtlas) {
    this._panel.classList.toggle("stale", entity.stale);
    byId("entity-stale").hidden = !entity.stale;
    byId("entity-now").replaceChildren(...nowFigures(entity, nowMs, this.unit));
    const rows = entity.horizons.map((one) => ({ one, ...reach(entity, one) }));
    byId("entity-forecast").replaceChildren(table(entity.stale ? `Forecast of its last ping, ${clock(entity.ts)}` : "Forecast", FORECAST, rows, "forecast"));
    const isOther = drawnAtlas !== null && drawnAtlas !== entity.atlas;
    const other = isOther ? [element("p", { class: "none", text: `Those that are drawn are of atlas ${version(drawnAtlas)}.` })] : [];
    byId("entity-branches").replaceChildren(...(entity.passages ? [branchTable(entity), ...other] : []));
    byId("entity-model").replaceChildren(...modelFigures(entity));
  }

  former(former) {
    const newest = former.slice(-8).reverse();
    byId("entity-former").replaceChildren(
      newest.length ? table("Former forecasts", FORMER, newest, "former") : element("p", { class: "none", text: "No forecast has come true yet." }),
    );
  }

  detail({ errors = [], fills = [], arrivals = [] }, nowMs) {
    byId("entity-arrivals").replaceChildren(...(arrivals.length ? [arrivalTable(arrivals, nowMs)] : []));
    byId("entity-errors").replaceChildren(errorTable("Errors of this one", errors));
    const rows = fills.slice(-6).reverse();
    byId("entity-fills").replaceChildren(rows.length ? table("Gap fills", FILLS, rows, "fills") : element("p", { class: "none", text: "No gaps filled." }));
  }
}
