// Numbers and forecasts as text, for people and for screen readers. Pure functions.

import { bearing, ellipse, offset } from "../drawing/geometry.js";

const POINTS = ["north", "north-east", "east", "south-east", "south", "south-west", "west", "north-west"];
const UNKNOWN = "–";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const tenth = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const short = (value) => (Math.abs(value) < 10 ? tenth : whole).format(value);

export function known(value, say) {
  return value === null || value === undefined || Number.isNaN(value) ? UNKNOWN : say(value);
}

export const count = (value) => known(value, (v) => whole.format(v));
export const rate = (value) => known(value, short);
export const percent = (value) => known(value, (v) => `${whole.format(v * 100)} %`);
export const millis = (value) => known(value, (v) => `${short(v)} ms`);
export const metres = (value) => known(value, (v) => (v < 10_000 ? `${short(v)} m` : `${tenth.format(v / 1000)} km`));
export const skill = (value) => known(value, (v) => `${v > 0 ? "+" : v < 0 ? "−" : ""}${whole.format(Math.abs(v) * 100)} %`);
export const SPEEDS = { "km/h": 3.6, mph: 2.236936, knots: 1.943844, "m/s": 1 }; // how many of each are 1 m/s
export const speed = (mps, unit) => known(mps, (v) => `${short(v * SPEEDS[unit])} ${unit}`);
export const version = (name) => known(name, (v) => v.slice(0, 12));
export const place = (lat, lon) => `${lat.toFixed(5)}, ${lon.toFixed(5)}`;

export function duration(seconds) {
  return known(seconds, (s) => {
    if (s < 90) return `${whole.format(s)} s`;
    if (s < 5_400) return `${tenth.format(s / 60)} min`;
    return s < 172_800 ? `${tenth.format(s / 3600)} h` : `${tenth.format(s / 86_400)} d`;
  });
}

/** When the next ping comes, which was expected so many seconds after the last one. */
export function expected(dt_s, ageMs) {
  if (ageMs === null) return duration(dt_s);
  return known(dt_s, (s) => (s * 1000 >= ageMs ? `in ${duration(s - ageMs / 1000)}` : `${duration(ageMs / 1000 - s)} late`));
}

/** 0 stands for the next ping, whose time differs. */
export const horizon = (h_s) => (h_s === null || h_s === undefined || h_s === 0 || h_s === "next" ? "next ping" : duration(h_s));

export function clock(ms) {
  return known(ms, (t) => new Date(t).toLocaleTimeString("en-GB", { hour12: false }));
}

export const hourMinute = (ms) => clock(ms).slice(0, 5);

/** With the zone of this browser, as it was at that time. */
export function clockInZone(ms) {
  const parts = (t) => new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(t);
  return known(ms, (t) => `${clock(t)} ${parts(t).find(({ type }) => type === "timeZoneName").value}`);
}

export function compass(degrees) {
  return POINTS[Math.round(degrees / 45) % 8];
}

/** How far and where to from the entity, and the 90 % region's larger half axis. */
export function reach(entity, { lat, lon, cov_m2 }) {
  const [east, north] = offset(entity.lat, entity.lon, lat, lon);
  const longM = cov_m2 ? ellipse(cov_m2, 0.9).longM : null;
  return { farM: Math.hypot(east, north), degrees: bearing(east, north), within90M: longM };
}

function spoken(seconds) {
  const minutes = Math.round(seconds / 60);
  if (seconds < 60) return `${Math.round(seconds)} seconds`;
  return minutes === 1 ? "1 minute" : `${minutes} minutes`;
}

/** The forecast of an entity in words, as a screen reader says it. */
export function sentence(entity, unit) {
  const speedMps = entity.east_mps === null ? null : Math.hypot(entity.east_mps, entity.north_mps);
  const parts = [`Entity ${entity.id}${entity.stale ? ", stale" : ""}.`];
  if (speedMps !== null) {
    const to = speedMps < 0.5 ? "standing" : `moving ${compass(bearing(entity.east_mps, entity.north_mps))} at ${speed(speedMps, unit)}`;
    parts.push(`It is ${to}.`);
  }
  for (const one of entity.horizons) {
    const { farM, degrees, within90M } = reach(entity, one);
    parts.push(`In ${spoken(one.h_s)}: ${metres(farM)} to the ${compass(degrees)}, 90 % region ${metres(within90M)} around.`);
  }
  if (!entity.horizons.length) parts.push("There is no forecast of it.");
  return parts.join(" ");
}
