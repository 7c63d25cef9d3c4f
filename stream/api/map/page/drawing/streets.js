// The fleet's atlas as streets: what MapLibre draws of the server's ways, and in which order they draw themselves.

import { mercator } from "./geometry.js";

const HEADS_FROM_ZOOM = 14; // below that, heads of arrows would be smaller than a pixel or two
const HEAD_PART = 0.2; // of a way's length, at most
const HEAD_DEG = 0.00012; // some 13 m: larger ones would be mistaken for entities in a street that is near
const TILES = 2 ** 19; // across the world. A way begins in the same tile and leads into the same octant in every version
const NEAR = 2 ** 18; // ways of which ends are in one tile of this size go on from each other

/** A name for a way, which it has in every version. */
export function nameOf([lat, lon, toLat, toLon]) {
  const [from, to] = [mercator(lat, lon), mercator(toLat, toLon)];
  const octant = Math.round((Math.atan2(to[0] - from[0], from[1] - to[1]) * 4) / Math.PI);
  return [...from.map((one) => Math.floor(one * TILES)), (octant + 8) % 8].join();
}

/** The ways from the most travelled one outwards, each after one that it goes on from or that goes on from it; then the
 * next that is not joined to any of them. They come by how often they were travelled. */
export function inDrawingOrder(flows) {
  const ends = new Map();
  const at = (lat, lon) => mercator(lat, lon).map((one) => Math.floor(one * NEAR)).join();
  flows.forEach(([lat, lon, toLat, toLon], index) => {
    for (const place of [at(lat, lon), at(toLat, toLon)]) ends.set(place, [...(ends.get(place) ?? []), index]);
  });
  const seen = new Set();
  for (let first = 0; first < flows.length; first += 1) {
    if (seen.has(first)) continue;
    const due = [first];
    seen.add(first);
    for (let next = 0; next < due.length; next += 1) {
      const [lat, lon, toLat, toLon] = flows[due[next]];
      for (const other of [...ends.get(at(lat, lon)), ...ends.get(at(toLat, toLon))]) {
        if (!seen.has(other)) due.push(other);
        seen.add(other);
      }
    }
  }
  return [...seen].map((index) => flows[index]);
}

/** Two features for each way, as bright as the logarithm of how many passed: a line, and an arrow's head in its middle. */
export function streetFeatures(flows, most) {
  return flows.flatMap(([lat, lon, toLat, toLon, count]) => {
    const bright = most > 1 ? Math.log1p(count) / Math.log1p(most) : 1;
    const narrow = Math.cos((lat * Math.PI) / 180) || 1; // a degree of longitude, as part of one of latitude
    const [dx, dy] = [(toLon - lon) * narrow, toLat - lat];
    const size = Math.min(HEAD_PART, HEAD_DEG / (Math.hypot(dx, dy) || 1));
    const [x, y] = [(lon + toLon) / 2, (lat + toLat) / 2];
    const side = (turn) => [x - (size * (dx - turn * dy * 0.6)) / narrow, y - size * (dy + turn * dx * 0.6)];
    const feature = (kind, coordinates) => ({ type: "Feature", geometry: { type: "LineString", coordinates }, properties: { bright, kind } });
    return [feature("way", [[lon, lat], [toLon, toLat]]), feature("head", [side(1), [x, y], side(-1)])];
  });
}

export function streetLayers(colours) {
  const bright = ["get", "bright"];
  const width = ["interpolate", ["linear"], ["zoom"], 8, ["+", 0.4, bright], 12, ["+", 0.6, ["*", 1.3, bright]], 16, ["+", 0.8, ["*", 2.2, bright]]];
  const opacity = ["+", 0.14, ["*", colours.streetMost, ["^", bright, 1.6]]];
  const paint = { "line-color": colours.street, "line-width": width, "line-opacity": opacity };
  const glow = { "line-color": colours.street, "line-width": ["*", 6, bright], "line-blur": 4, "line-opacity": ["*", colours.glow, ["^", bright, 2]] };
  const beside = ["interpolate", ["linear"], ["zoom"], 11, 0, 15, 2.5]; // so that both directions are seen
  const layout = { "line-cap": "round" };
  const of = (kind) => ["==", ["get", "kind"], kind];
  return [
    { id: "glow", type: "line", source: "streets", filter: of("way"), layout, paint: { ...glow, "line-offset": beside } },
    { id: "streets", type: "line", source: "streets", filter: of("way"), layout, paint: { ...paint, "line-offset": beside } },
    { id: "heads", type: "line", source: "streets", filter: of("head"), layout, paint: { ...paint, "line-offset": 0 }, minzoom: HEADS_FROM_ZOOM },
  ];
}
