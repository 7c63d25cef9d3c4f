// Makes coast.json of the TopoJSON of the npm package `world-atlas` (Natural Earth): vendor/README.md has the command.
//
//   {"degrees_per_unit": 0.001, "land": [[ring, ...], ...], "borders": [line, ...]}
//
// A ring or line is [lon, lat, step east, step north, step east, ...] in whole units.

import { readFileSync, writeFileSync } from "node:fs";

const UNIT = 0.004; // degrees, some 400 m: as fine as the source is rounded
const [landPath, bordersPath, out] = process.argv.slice(2);
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

function steps(points) {
  let [x, y] = [0, 0];
  return points.flatMap(([lon, lat], i) => {
    const [px, py] = [Math.round(lon / UNIT), Math.round(lat / UNIT)];
    const step = [px - x, py - y];
    [x, y] = [px, py];
    return i && step[0] === 0 && step[1] === 0 ? [] : step;
  });
}

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
writeFileSync(out, JSON.stringify({
  degrees_per_unit: UNIT,
  land: polygons.map((rings) => rings.map((ring) => steps(joined(land, ring)))),
  borders: shared(countries).map((number) => steps(arc(countries, number))),
}));
