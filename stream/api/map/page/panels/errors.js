// The table of errors that both panels have. How many forecasts a row is of stands below its horizon: as a column, it would
// not fit into the panel.

import { table } from "./dom.js";
import { count, horizon, metres, percent, skill } from "./words.js";

const COLUMNS = [
  ["ahead", (row) => horizon(row.h_s), "how far ahead; below it, how many forecasts: those that are compared with going straight on, if there are any", (row) => `n ${count(row.n)}`],
  ["error", (row) => metres(row.mean_m), "mean error of the forecasts"],
  ["straight on", (row) => metres(row.damped_m), "mean error if all had gone straight on, ever more slowly (damped velocity)"],
  ["nearer by", (row) => skill(row.skill), "by how much the error is smaller than that of going straight on: 100 % is perfect, below 0 it is larger"],
  ["within 50\u00a0%", (row) => percent(row.in50), "how many came true within the 50 % region: 50 % would be right"],
  ["within 90\u00a0%", (row) => percent(row.in90), "how many came true within the 90 % region: 90 % would be right"],
];

export function errorTable(caption, rows) {
  return table(caption, COLUMNS, rows, "errors");
}
