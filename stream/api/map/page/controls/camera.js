// The map itself: made once, moved by people, fitted to the fleet until they do, and kept on a followed entity.

import { boxOfMost, degrees, padded } from "../drawing/geometry.js";
import { style } from "../drawing/basemap.js";
import { Map as MapLibre, NavigationControl, ScaleControl } from "../vendor/maplibre-gl.mjs";

const AWAY_PART = 0.12; // a followed entity may be so far from the middle before the map glides after it
const GLIDE_MS = 700;
const CLOSEST_FIT_ZOOM = 14;
const CHOSEN_ZOOM = 12; // a chosen one is looked at from here or nearer

/** `#map=zoom/lat/lon`, and the chosen entity, so that an address can be kept or sent. Null is what it does not say. */
export function fromHash(hash) {
  const fields = new URLSearchParams(hash.replace(/^#/, ""));
  const [zoom, lat, lon, ...more] = (fields.get("map") ?? "").split("/").map(Number);
  const whole = [zoom, lat, lon].every(Number.isFinite) && !more.length && Math.abs(lat) <= 90;
  return { place: whole ? { zoom, center: [lon, lat] } : null, entity: fields.get("entity") || null };
}

export class Camera {
  constructor(parts, theme, still) {
    this._parts = parts;
    this._still = still;
    const { place } = fromHash(window.location.hash);
    this.fitting = place === null; // until somebody moves the map
    this.map = new MapLibre({
      container: "map",
      style: style(theme, parts),
      ...(place ?? { center: [0, 25], zoom: 1.4 }),
      dragRotate: false,
      pitchWithRotate: false,
      touchPitch: false,
      maxPitch: 0,
      fadeDuration: 0,
      // Tile hosts want to know which page asks them (OpenStreetMap's refuse others); not which place of it.
      transformRequest: (url) => (parts.basemap?.host ? { url, referrerPolicy: "strict-origin" } : { url }),
      attributionControl: { compact: true },
      cancelPendingTileRequestsWhileZooming: true,
      locale: { "Map.Title": "Map of the fleet. Arrow keys move it, plus and minus zoom" },
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    const control = new NavigationControl({ showCompass: false });
    this.map.addControl(control, "top-left");
    this.map.addControl(new ScaleControl({ maxWidth: 90 }), "bottom-left");
    // A panel that opens or grows meanwhile makes the map smaller, and its middle is another one then.
    this._glide = null;
    this.map.on("resize", () => this._glide && this._move(this._glide));
    this.map.on("moveend", () => (this._glide = null));
    for (const name of ["dragstart", "wheel", "dblclick"]) this.map.on(name, () => this.taken());
    this.map.on("movestart", (event) => event.originalEvent && this.taken());
  }

  /** Somebody moves the map: it is theirs now. */
  taken() {
    this.fitting = false;
  }

  setTheme(theme) {
    this.map.setStyle(style(theme, this._parts), { diff: false });
  }

  setStreets(streets) {
    this._parts.streets = streets;
    this.map.getSource("streets")?.setData(streets);
  }

  setStops(stops) {
    this._parts.stops = stops;
    this.map.getSource("stops")?.setData(stops);
  }

  /** [west, south, east, north] of what is shown. */
  box() {
    const bounds = this.map.getBounds();
    return [bounds.getWest(), bounds.getSouth(), bounds.getEast(), bounds.getNorth()];
  }

  /** Shows the box of most of these movers, if they are not in view as they should be. */
  fit(movers) {
    if (!movers.length) return;
    const [west, south, east, north] = boxOfMost(movers.map((mover) => degrees(mover.x, mover.y)));
    const [w, s, e, n] = this.box();
    const inside = west >= w && south >= s && east <= e && north <= n;
    const wellUsed = east - west > (e - w) / 4 || north - south > (n - s) / 4;
    if (inside && (wellUsed || this.map.getZoom() >= CLOSEST_FIT_ZOOM)) return;
    const [a, b, c, d] = padded([west, south, east, north], 0.06);
    this.map.fitBounds([[a, b], [c, d]], { padding: 24, maxZoom: CLOSEST_FIT_ZOOM, animate: false });
  }

  /** Shows the place of a link. */
  show(place) {
    this.taken();
    this.map.jumpTo(place);
  }

  /** Goes to a place, near enough to see a track. */
  goTo(lat, lon) {
    this._move({ center: [lon, lat], zoom: Math.max(this.map.getZoom(), CHOSEN_ZOOM) });
  }

  /** Glides after an entity that left the middle; called in every frame. */
  follow(x, y) {
    if (this.map.isMoving()) return;
    const [lat, lon] = degrees(x, y);
    const { x: px, y: py } = this.map.project([lon, lat]);
    const box = this.map.getContainer();
    const away = Math.hypot(px - box.clientWidth / 2, py - box.clientHeight / 2);
    if (away > AWAY_PART * Math.min(box.clientWidth, box.clientHeight)) this._move({ center: [lon, lat] });
  }

  _move(to) {
    if (this._still.matches) {
      this.map.jumpTo(to);
      return;
    }
    this.map.easeTo({ ...to, duration: GLIDE_MS });
    this._glide = to; // not before: what was under way ends with a `moveend`
  }

  /** Writes what is shown into the address. */
  keepInAddress(entity) {
    const { lng, lat } = this.map.getCenter();
    const place = `map=${this.map.getZoom().toFixed(2)}/${lat.toFixed(5)}/${lng.toFixed(5)}`;
    const chosen = entity === null ? "" : `&entity=${encodeURIComponent(entity)}`;
    window.history.replaceState(null, "", `#${place}${chosen}`);
  }
}
