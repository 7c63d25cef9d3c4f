// The stops ahead of the chosen vehicle, as MapLibre draws them: rings, and from near by their names.

const NEAR_ZOOM = 13;

export function stopFeatures(stops, chosen) {
  const features = stops.map(({ stop_id: id, lat, lon }, place) => ({
    type: "Feature",
    geometry: { type: "Point", coordinates: [lon, lat] },
    properties: { id, next: place === 0, chosen: id === chosen },
  }));
  return { type: "FeatureCollection", features };
}

export function stopLayers(colours) {
  const bold = ["any", ["get", "next"], ["get", "chosen"]];
  const paint = {
    "circle-radius": ["interpolate", ["linear"], ["zoom"], 9, ["case", bold, 3.5, 2], NEAR_ZOOM, ["case", bold, 6, 4]],
    "circle-color": ["case", ["get", "chosen"], colours.accent, colours.edge],
    "circle-stroke-color": ["case", bold, colours.accent, colours.label],
    "circle-stroke-width": ["case", bold, 2, 1.5],
  };
  return [{ id: "stops", type: "circle", source: "stops", paint }];
}
