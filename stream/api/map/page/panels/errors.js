// The table of errors that both panels have. How many forecasts a row is of stands below its horizon: as a column, it would
// not fit into the panel.

import { table } from "./dom.js";
import { count, horizon, metres, percent, skill } from "./words.js";

const COLUMNS = [
  ["ahead", (row) => horizon(row.h_s), "how far ahead; below it, how many forecasts: those that damped velocity has an error for, if there are any", (row) => `n ${count(row.n)}`],
  ["error", (row) => metres(row.mean_m), "mean error of the forecasts"],
  ["damped", (row) => metres(row.damped_m), "mean error of damped velocity"],
  ["skill", (row) => skill(row.skill), "1 - error / damped velocity's: 0 is no better, 100 % is perfect"],
  ["in 50", (row) => percent(row.in50), "how many came true within the 50 % region"],
  ["in 90", (row) => percent(row.in90), "how many came true within the 90 % region"],
];

export function errorTable(caption, rows) {
  return table(caption, COLUMNS, rows, "errors");
}
