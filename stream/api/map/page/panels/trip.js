// What a vehicle's trip has ahead, and what a stop expects: tables whose first column are buttons.

import { element, idText } from "./dom.js";
import { count, duration, hourMinute } from "./words.js";

const FIRST_STOPS = 8; // the others are a click away
const PUNCTUAL_S = 60;

const STOPS = [
  ["stop", "the stops ahead, the next one first"],
  ["at", "when it gets there"],
  ["between", "nine times in ten it comes in this time"],
];
const CALLS = [
  ["vehicle", "and where it goes"],
  ["at", "when it gets here"],
  ["between", "nine times in ten it comes in this time"],
];
const UNSAID = { unknown: "nobody knows", skipped: "does not call" };

function punctuality(delayS) {
  if (delayS === null) return "";
  if (Math.abs(delayS) < PUNCTUAL_S) return ", on time";
  return `, ${duration(Math.abs(delayS))} ${delayS > 0 ? "late" : "early"}`;
}

const head = (columns) => element("thead", {}, element("tr", {}, ...columns.map(([text, title]) => element("th", { scope: "col", text, title }))));
const button = (data, label, ...below) => element("th", { scope: "row" }, element("button", { type: "button", class: "who", data }, label), ...below);

function times({ at, early_ts, late_ts, prediction }) {
  if (at === null) return [element("td", { colspan: 2, text: UNSAID[prediction] ?? "–" })];
  return [element("td", { text: hourMinute(at) }), element("td", { text: `${hourMinute(early_ts)}–${hourMinute(late_ts)}` })];
}

const stopRow = (stop) => element("tr", { data: { stop: stop.stop_id } }, button({ stop: stop.stop_id }, idText(stop.name)), ...times(stop));

/** The trip of a vehicle: its stops ahead. */
export function tripTable({ route, headsign, delay_s, stops }) {
  const where = element("caption", {}, `Route `, idText(route), ...(headsign ? [" to ", idText(headsign)] : []), punctuality(delay_s));
  const table = element("table", { data: { table: "trip" } }, where, head(STOPS), element("tbody", {}, ...stops.slice(0, FIRST_STOPS).map(stopRow)));
  const later = stops.slice(FIRST_STOPS);
  if (!later.length) return [table];
  const rest = element("table", { data: { table: "trip-later" } }, element("tbody", {}, ...later.map(stopRow)));
  const stopsMore = later.length === 1 ? "1 more stop" : `${count(later.length)} more stops`;
  return [table, element("details", {}, element("summary", { text: stopsMore }), rest)];
}

/** The next arrivals at a stop. */
export function callTable({ name, stop_id, arrivals }) {
  const caption = element("caption", {}, "Next at ", idText(name ?? stop_id));
  if (!arrivals.length) return element("table", { data: { table: "stop" } }, caption, element("tbody", {}, element("tr", {}, element("td", { text: "No trip under way calls here." }))));
  const rows = arrivals.map((one) => element("tr", { data: { id: one.entity_id } },
    button({ id: one.entity_id }, idText(one.entity_id), element("small", {}, idText(one.route), ...(one.headsign ? [" to ", idText(one.headsign)] : []))),
    ...times(one),
  ));
  return element("table", { data: { table: "stop" } }, caption, head(CALLS), element("tbody", {}, ...rows));
}
