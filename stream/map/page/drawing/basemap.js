// The map below everything: coastline and borders, the fleet's atlas as its streets, and a basemap for those who have
// one. MapLibre draws it; nothing of it comes from another host.

import { COLOURS } from "./colours.js";

const HEADS_FROM_ZOOM = 12.5; // below that, heads of arrows would be smaller than a pixel or two
const HEAD_PART = 0.28; // of an arrow's length
const COAST_TO_ZOOM = 8.5; // the coastline is right within a kilometre: nearer, it would run through harbours

/** Rings and lines of vendor/coast.json: whole numbers, each point after the first as a step from the one before. */
export function coastFeatures({ degrees_per_unit: unit, land, borders }) {
  const line = (steps) => {
    let [x, y] = [0, 0];
    const points = [];
    for (let i = 0; i < steps.length; i += 2) {
      [x, y] = [x + steps[i], y + steps[i + 1]];
      points.push([x * unit, y * unit]);
    }
    return points;
  };
  const feature = (type, coordinates, kind) => ({ type: "Feature", geometry: { type, coordinates }, properties: { kind } });
  const polygons = land.map((rings) => rings.map(line));
  const features = [feature("MultiPolygon", polygons, "land"), feature("MultiLineString", borders.map(line), "border")];
  return { type: "FeatureCollection", features };
}

/** An arrow for each flow, as bright as the logarithm of how many passed. */
export function streetFeatures({ flows, max_count: most }) {
  const features = flows.map(([lat, lon, toLat, toLon, count]) => {
    const bright = most > 1 ? Math.log1p(count) / Math.log1p(most) : 1;
    const [dx, dy] = [toLon - lon, toLat - lat];
    const narrow = Math.cos((lat * Math.PI) / 180) || 1; // a degree of longitude, as part of one of latitude
    const side = (turn) => [toLon - HEAD_PART * (dx - (turn * dy * 0.6) / narrow), toLat - HEAD_PART * (dy + turn * dx * 0.6 * narrow)];
    const lines = [[[lon, lat], [toLon, toLat]], [side(1), [toLon, toLat], side(-1)]];
    return [
      { type: "Feature", geometry: { type: "LineString", coordinates: lines[0] }, properties: { bright, kind: "way" } },
      { type: "Feature", geometry: { type: "LineString", coordinates: lines[1] }, properties: { bright, kind: "head" } },
    ];
  });
  return { type: "FeatureCollection", features: features.flat() };
}

const EMPTY = { type: "FeatureCollection", features: [] };

function streetLayers(colours) {
  const width = ["interpolate", ["linear"], ["zoom"], 8, ["+", 0.4, ["get", "bright"]], 15, ["+", 0.8, ["*", 2.2, ["get", "bright"]]]];
  const opacity = ["+", 0.12, ["*", colours.streetMost, ["^", ["get", "bright"], 1.4]]];
  const paint = { "line-color": colours.street, "line-width": width, "line-opacity": opacity };
  const glow = { "line-color": colours.street, "line-width": ["*", 5, ["get", "bright"]], "line-blur": 4, "line-opacity": ["*", colours.glow, ["get", "bright"]] };
  const layout = { "line-cap": "round" };
  const of = (kind) => ["==", ["get", "kind"], kind];
  return [
    { id: "glow", type: "line", source: "streets", filter: of("way"), layout, paint: { ...glow, "line-offset": 1 } },
    { id: "streets", type: "line", source: "streets", filter: of("way"), layout, paint: { ...paint, "line-offset": 1 } },
    { id: "heads", type: "line", source: "streets", filter: of("head"), layout, paint, minzoom: HEADS_FROM_ZOOM },
  ];
}

/** Layers of a Protomaps basemap (its vector tiles' names), in our colours. */
function basemapLayers(colours, has) {
  const fill = (id, colour) => ({ id: `base-${id}`, type: "fill", source: "base", "source-layer": id, paint: { "fill-color": colour } });
  const road = { "line-color": colours.road, "line-width": ["interpolate", ["exponential", 1.6], ["zoom"], 8, 0.4, 18, 12] };
  const layers = [
    fill("earth", colours.land),
    fill("water", colours.water),
    { id: "base-roads", type: "line", source: "base", "source-layer": "roads", paint: road },
    { ...fill("buildings", colours.building), minzoom: 13 },
  ];
  return layers.filter((layer) => has.includes(layer["source-layer"]));
}

/** MapLibre's style: what is drawn, and how. */
export function style(theme, { coast, streets, basemap }) {
  const colours = COLOURS[theme];
  const of = (kind) => ["==", ["get", "kind"], kind];
  const far = (value, near) => ["interpolate", ["linear"], ["zoom"], COAST_TO_ZOOM, value, COAST_TO_ZOOM + 1.5, near];
  const line = (id, kind, colour) => ({
    id, type: "line", source: "coast", filter: of(kind), paint: { "line-color": colour, "line-width": 1, "line-opacity": far(1, 0.3) },
  });
  const sources = {
    coast: { type: "geojson", data: coast, tolerance: 0.2, attribution: "Natural Earth" },
    streets: { type: "geojson", data: streets ?? EMPTY, tolerance: 0 },
  };
  if (basemap !== null) sources.base = { type: "vector", url: `pmtiles://${basemap.url}`, attribution: basemap.attribution };
  return {
    version: 8,
    sources,
    layers: [
      { id: "sea", type: "background", paint: { "background-color": far(colours.sea, colours.land) } },
      { id: "land", type: "fill", source: "coast", filter: of("land"), paint: { "fill-color": colours.land, "fill-antialias": false } },
      line("borders", "border", colours.border),
      line("coast", "land", colours.coast),
      ...(basemap === null ? [] : basemapLayers(colours, basemap.layers)),
      ...streetLayers(colours),
    ],
  };
}
