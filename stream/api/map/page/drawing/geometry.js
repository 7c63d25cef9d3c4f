// Positions on the Web Mercator square (0..1 from the north-west corner), boxes, and the regions of a forecast.
// Pure functions: no map, no page, no clock.

const EARTH_M = 40_075_016.686; // around the equator, as Web Mercator has it
const M_PER_DEG = 111_320;
const RAD = Math.PI / 180;
const LAT_MAX = 85.05;
const DEGREES_OF_FREEDOM = 4; // of the Student's t that `cov_m2` stands for (stream/wire/README.md, "The spread")
const COVARIANCE_PER_SCALE = 1.878; // the t's scale matrix is cov_m2 / 1.878

export function mercator(lat, lon) {
  const sine = Math.sin(Math.max(-LAT_MAX, Math.min(LAT_MAX, lat)) * RAD);
  return [lon / 360 + 0.5, 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI)];
}

export function degrees(x, y) {
  return [Math.atan(Math.sinh(Math.PI * (1 - 2 * y))) / RAD, (x - 0.5) * 360];
}

/** Units of the square for one metre at this latitude. */
export function unitsPerMetre(lat) {
  return 1 / (EARTH_M * Math.cos(Math.max(-LAT_MAX, Math.min(LAT_MAX, lat)) * RAD));
}

/** East and north in metres from one position to another; for the distances that a forecast spans. */
export function offset(lat, lon, toLat, toLon) {
  const turn = ((toLon - lon + 540) % 360) - 180;
  return [turn * M_PER_DEG * Math.cos(((lat + toLat) / 2) * RAD), (toLat - lat) * M_PER_DEG];
}

/** Degrees clockwise from north. */
export function bearing(east, north) {
  return (Math.atan2(east, north) / RAD + 360) % 360;
}

/** The squared radius that holds this share of a bivariate Student's t, in units of cov_m2: 0.88 for a half, 4.61 for
 * 0.9. (A Gaussian has 1.39 and 4.61: both agree at 90 %, and differ in the middle.) */
export function squaredRadius(share) {
  const scaled = DEGREES_OF_FREEDOM * ((1 - share) ** (-2 / DEGREES_OF_FREEDOM) - 1);
  return scaled / COVARIANCE_PER_SCALE;
}

/** The ellipse that holds this share: half axes in metres, and the long one's angle from east towards north. */
export function ellipse([ee, en, nn], share) {
  const middle = (ee + nn) / 2;
  const spread = Math.hypot((ee - nn) / 2, en);
  const scale = squaredRadius(share);
  return {
    longM: Math.sqrt(Math.max(0, (middle + spread) * scale)),
    shortM: Math.sqrt(Math.max(0, (middle - spread) * scale)),
    angle: Math.atan2(2 * en, ee - nn) / 2,
  };
}

/** The smallest convex polygon around points [[x, y], ...], always in the same direction (Andrew's monotone chain). */
export function hull(points) {
  const sorted = points.slice().sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const turn = (o, a, b) => (a[0] - o[0]) * (b[1] - o[1]) - (a[1] - o[1]) * (b[0] - o[0]);
  const chain = (way) => {
    const kept = [];
    for (const point of way) {
      while (kept.length > 1 && turn(kept[kept.length - 2], kept[kept.length - 1], point) <= 0) kept.pop();
      kept.push(point);
    }
    return kept.slice(0, -1);
  };
  return chain(sorted).concat(chain(sorted.reverse()));
}

const clamp = (value, low, high) => Math.max(low, Math.min(high, value));

/** A box [west, south, east, north] that is larger by this part of its sides; at most the whole world. */
export function padded([west, south, east, north], part) {
  const wide = (east - west) * part;
  const high = (north - south) * part;
  if (east - west + 2 * wide >= 360) return [-180, clamp(south - high, -90, 90), 180, clamp(north + high, -90, 90)];
  return [west - wide, clamp(south - high, -90, 90), east + wide, clamp(north + high, -90, 90)];
}

export function contains([west, south, east, north], [w, s, e, n]) {
  return west <= w && south <= s && east >= e && north >= n;
}

/** As a request has it: longitudes within -180..180, so that west is above east where it crosses the date line. */
export function boxText([west, south, east, north]) {
  const wrap = (lon) => (lon < -180 || lon > 180 ? ((((lon + 180) % 360) + 360) % 360) - 180 : lon);
  const sides = east - west >= 360 ? [-180, south, 180, north] : [wrap(west), south, wrap(east), north];
  return sides.map((side) => side.toFixed(5)).join(",");
}

/** The box of most positions: a hundredth of them on each side may be far off, such as one with a wrong sign. */
export function boxOfMost(positions) {
  const lats = positions.map((one) => one[0]).sort((a, b) => a - b);
  const lons = positions.map((one) => one[1]).sort((a, b) => a - b);
  const off = Math.floor(positions.length / 100);
  const last = positions.length - 1 - off;
  return [lons[off], lats[off], lons[last], lats[last]];
}
