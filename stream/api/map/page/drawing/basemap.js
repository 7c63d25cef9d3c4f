// The map below everything: coastline, lakes and borders, the fleet's atlas as its streets, and a basemap for those who
// have one. MapLibre draws it; nothing of it comes from another host but the tiles of an address that the operator gave.

import { COLOURS } from "./colours.js";
import { stopLayers } from "./stops.js";
import { streetLayers } from "./streets.js";

const COAST_TO_ZOOM = 8.5; // the coastline is right within a kilometre: nearer, it would run through harbours

/** Rings and lines of vendor/coast.json: whole numbers, each point after the first as a step from the one before. */
export function coastFeatures({ degrees_per_unit: unit, land, lakes, borders }) {
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
  const areas = (polygons, kind) => feature("MultiPolygon", polygons.map((rings) => rings.map(line)), kind);
  const features = [areas(land, "land"), areas(lakes, "lake"), feature("MultiLineString", borders.map(line), "border")];
  return { type: "FeatureCollection", features };
}

const EMPTY = { type: "FeatureCollection", features: [] };

/** Pictures as they are, but darker where the page is; or layers of a Protomaps basemap (its vector tiles' names), in our
 * colours. */
function basemapLayers(colours, { source, layers: has }) {
  if (source.type === "raster") return [{ id: "base-pictures", type: "raster", source: "base", paint: colours.pictures }];
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
export function style(theme, { coast, streets, stops, basemap }) {
  const colours = COLOURS[theme];
  const of = (kind) => ["==", ["get", "kind"], kind];
  const far = (value, near) => ["interpolate", ["linear"], ["zoom"], COAST_TO_ZOOM, value, COAST_TO_ZOOM + 1.5, near];
  const line = (id, kind, colour) => ({
    id, type: "line", source: "coast", filter: of(kind), paint: { "line-color": colour, "line-width": 1, "line-opacity": far(1, 0.3) },
  });
  const sources = {
    coast: { type: "geojson", data: coast, tolerance: 0.2, attribution: "Natural Earth" },
    streets: { type: "geojson", data: streets ?? EMPTY, tolerance: 0 },
    stops: { type: "geojson", data: stops ?? EMPTY },
  };
  if (basemap !== null) sources.base = basemap.source;
  return {
    version: 8,
    sources,
    layers: [
      { id: "sea", type: "background", paint: { "background-color": far(colours.sea, colours.land) } },
      { id: "land", type: "fill", source: "coast", filter: of("land"), paint: { "fill-color": colours.land, "fill-antialias": false } },
      { id: "lakes", type: "fill", source: "coast", filter: of("lake"), paint: { "fill-color": far(colours.sea, colours.land) } },
      line("shores", "lake", colours.coast),
      line("borders", "border", colours.border),
      line("coast", "land", colours.coast),
      ...(basemap === null ? [] : basemapLayers(colours, basemap)),
      ...streetLayers(colours),
      ...stopLayers(colours),
    ],
  };
}
