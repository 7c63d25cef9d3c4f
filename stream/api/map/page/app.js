// Starts the page, and connects its parts: the stream fills the fleet, the painter draws it in every frame, the panels
// say it in numbers.

import { Camera, fromHash } from "./controls/camera.js";
import { Keys } from "./controls/keys.js";
import { Search } from "./controls/search.js";
import { Theme } from "./controls/theme.js";
import { STEP_S, TimeBar } from "./controls/timebar.js";
import { addProtocol } from "./vendor/maplibre-gl.mjs";
import { coastFeatures } from "./drawing/basemap.js";
import { Painter } from "./drawing/painter.js";
import { ArrivalsPanel } from "./panels/arrivals.js";
import { EntityPanel } from "./panels/entity.js";
import { byId, element } from "./panels/dom.js";
import { FleetPanel, more } from "./panels/fleet.js";
import { Notices, shownAt } from "./panels/notices.js";
import { Choice } from "./state/choice.js";
import { hook } from "./state/hook.js";
import { ask, Denied, Link } from "./state/link.js";
import { Shown } from "./state/shown.js";
import { Stops } from "./state/stops.js";
import { Streets } from "./state/streets.js";

const NARROW = window.matchMedia("(max-width: 1023px)"); // as in style.css: panels are below the map, one at a time
const LEARNING_EVERY_MS = 15_000;
const ARRIVALS_EVERY_MS = 5_000; // while their panel is open
const FIT_EVERY_MS = 2_000;
const beside = (path) => new URL(path, import.meta.url).href; // a file of the page
const DEFAULTS = { title: "pathcast", scrub_s: 600, regions: [0.5, 0.9], basemap: false, tiles: null };
const VECTOR = 1; // kind of a PMTiles file's tiles
const PICTURES = { tileSize: 256, maxzoom: 19 }; // as nearly all hosts have them

async function start() {
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const config = await configured();
  const coast = coastFeatures(await (await fetch(beside("vendor/coast.json"))).json());
  const basemap = await basemapOf(config);
  const app = {};
  app.theme = new Theme((name) => app.painter && retint(app, name));
  app.camera = new Camera({ coast, streets: null, stops: null, basemap }, app.theme.name, still);
  sayHost(app.camera, basemap?.host);
  app.painter = new Painter(app.camera.map, app.theme.name);
  app.fleetPanel = new FleetPanel();
  app.arrivalsPanel = new ArrivalsPanel((id) => app.choice.choose(id));
  app.shown = new Shown(app.camera, still, () => {
    app.choice.heard();
    app.painter.hurry();
  });
  app.streets = new Streets(app.camera, still);
  app.stops = new Stops(app.camera, (id) => app.choice.choose(id));
  app.link = new Link(listeners(app));
  app.notices = new Notices(app.link);
  app.time = new TimeBar((when) => timeChanged(app, when));
  app.choice = new Choice(app, new EntityPanel());
  app.search = new Search((id) => {
    app.choice.choose(id);
    byId("entity-name").focus(); // out of the box, so that the next key is a shortcut
  });
  app.keys = new Keys(shortcuts(app));
  app.forecasts = true;
  app.ids = true;
  configure(app, config);
  const { place, entity } = fromHash(window.location.hash);
  if (entity !== null) app.choice.choose(entity, { move: place === null });
  connect(app); // from here on, the address says what is shown
  window.addEventListener("hashchange", ({ newURL }) => followLink(app, new URL(newURL).hash));
  window.pathcast = hook(app);
  requestAnimationFrame((at) => frame(app, at));
}

/** Shows the place and the entity of a link that came into the address; by now, there may be what is shown again. */
function followLink(app, hash) {
  const { place, entity } = fromHash(hash);
  if (place === null && entity === null) {
    app.camera.keepInAddress(app.choice.id); // it was the one to the search
    return;
  }
  app.choice.clear();
  if (place !== null) app.camera.show(place);
  if (entity !== null) app.choice.choose(entity, { move: place === null });
}

async function configured() {
  try {
    return { ...DEFAULTS, ...(await ask("map/config")) };
  } catch (error) {
    if (!(error instanceof Denied)) console.warn("no configuration yet:", error.message);
    return { ...DEFAULTS };
  }
}

/** What lies below the fleet, and where it comes from; null without a basemap. */
async function basemapOf({ basemap, tiles }) {
  if (tiles === null) return basemap ? await pmtiles().catch(() => null) : null;
  const attribution = element("span", { text: tiles.credit }).innerHTML; // MapLibre takes it as HTML
  return { host: tiles.host, layers: [], source: { type: "raster", tiles: [tiles.url], attribution, ...PICTURES } };
}

/** Says who sees which area is looked at, and that its tiles do not come, as long as none has. */
function sayHost({ map }, host) {
  if (!host) return;
  const line = byId("tiles");
  line.hidden = false;
  const say = (failed) => { line.textContent = `Tiles ${failed ? "do not come" : "come"} from ${host}: it sees which area you look at.`; };
  say(false);
  map.on("error", ({ sourceId, error }) => (sourceId === "base" ? say(true) : console.error(error)));
  map.on("data", ({ sourceId, tile }) => sourceId === "base" && tile?.state === "loaded" && say(false));
}

/** Makes MapLibre read PMTiles, whose reader is loaded for those alone who have such a basemap. It is no module. */
async function pmtiles() {
  const script = document.createElement("script");
  script.src = beside("vendor/pmtiles.js");
  await new Promise((loaded, failed) => {
    [script.onload, script.onerror] = [loaded, failed];
    document.head.append(script);
  });
  const url = new URL("basemap.pmtiles", document.baseURI).href;
  const archive = new window.pmtiles.PMTiles(url);
  const protocol = new window.pmtiles.Protocol();
  protocol.add(archive);
  addProtocol("pmtiles", protocol.tile);
  const { attribution = "", vector_layers: layers = [] } = (await archive.getMetadata()) ?? {};
  const { tileType } = await archive.getHeader();
  const source = tileType === VECTOR ? { type: "vector" } : { type: "raster", tileSize: PICTURES.tileSize };
  return { source: { ...source, url: `pmtiles://${url}`, attribution }, layers: layers.map((layer) => layer.id) };
}

function configure(app, config) {
  document.title = config.title;
  byId("title").textContent = config.title;
  app.regions = config.regions;
  app.time.scrubbable(config.scrub_s);
  app.serverId = config.server_id ?? app.serverId;
}

function retint(app, name) {
  app.camera.setTheme(name);
  app.painter.setTheme(name);
}

function listeners(app) {
  return {
    snapshot: (said) => heard(app, said, (at) => app.shown.live.replace(said, at)),
    delta: (said) => heard(app, said, (at) => app.shown.live.update(said, at)),
    fleet: (said) => {
      app.fleet = said;
      app.time.setNow(said.now_ms);
      app.fleetPanel.show(said);
      app.notices.empty(said.entities === 0);
      app.streets.version(said.streets ?? null);
    },
    state: (state) => app.notices?.connection(state),
    config: (config) => config && configure(app, { ...DEFAULTS, ...config }),
  };
}

function heard(app, said, apply) {
  apply(performance.now());
  app.time.setNow(said.now_ms);
  if (app.shown.live.movers.size) app.notices.empty(false);
  if (app.camera.fitting && app.time.mode === "live") fit(app);
  banners(app);
  app.choice.heard();
}

function fit(app) {
  const now = performance.now();
  if (now < (app.fitAt ?? 0)) return;
  app.fitAt = now + (app.shown.live.movers.size ? FIT_EVERY_MS : 0);
  app.camera.fit([...app.shown.live.movers.values()]);
}

/** What the map itself says: that it is not live, and that more is here than it shows. */
function banners(app) {
  const texts = { past: shownAt(app.time.mode, app.time.atMs), more: more(app.shown.fleet.more) };
  for (const [id, text] of Object.entries(texts)) {
    if (byId(id).textContent !== text) byId(id).textContent = text;
    byId(id).hidden = text === "";
  }
}

/** Follows the view: another stream where it leaves the box of the present one, and the streets of what is shown. */
function connect(app) {
  const { map } = app.camera;
  const open = () => {
    if (app.shown.needsBox()) app.link.open(app.shown.boxText(), app.choice.id);
    app.streets.ask();
    app.camera.keepInAddress(app.choice.id);
    if (app.time.mode === "past") timeChanged(app, app.time);
  };
  let timer;
  map.on("moveend", () => {
    clearTimeout(timer);
    timer = setTimeout(open, 300);
  });
  map.on("move", () => app.painter.hurry());
  map.on("styledata", () => app.painter.hurry());
  map.on("click", ({ point, originalEvent }) => {
    const id = app.painter.nearest(point.x, point.y, originalEvent?.pointerType === "touch" ? 28 : 16);
    if (id !== null) app.choice.choose(id, { move: false });
    else if (!app.stops.openAt(point)) app.choice.clear();
  });
  map.on("mousemove", ({ point }) => {
    const id = app.painter.nearest(point.x, point.y, 12);
    map.getCanvas().style.cursor = id === null ? "" : "pointer";
    if (id !== app.pointed) app.painter.hurry();
    app.pointed = id;
  });
  open();
  const learn = () => ask("map/learning").then((said) => said && app.fleetPanel.showLearning(said.points), () => {});
  learn();
  setInterval(learn, LEARNING_EVERY_MS);
  setInterval(() => askArrivals(app), ARRIVALS_EVERY_MS);
}

function timeChanged(app, { mode, atMs }) {
  if (mode === "live") app.shown.goLive();
  else if (mode === "paused") app.shown.freeze(performance.now());
  else app.shown.goBack(atMs, app.time.nowMs);
  banners(app);
  if (mode !== "past") app.choice.heard(); // of the past, when it has come
  app.painter.hurry();
}

function frame(app, at) {
  if (app.shown.step(at)) app.painter.hurry();
  const { fleet } = app.shown;
  const chosen = app.choice.id === null ? undefined : fleet.movers.get(app.choice.id);
  if (chosen && app.choice.following) app.camera.follow(chosen.shownX(at), chosen.shownY(at));
  app.painter.draw(
    {
      fleet,
      chosen: app.choice.id,
      pointed: app.pointed ?? null,
      former: app.choice.formerUntil(app.time.atMs),
      passages: app.choice.drawnPassages.ways,
      forecasts: app.forecasts,
      ids: app.ids,
      shares: app.regions,
      names: app.choice.names,
    },
    at,
  );
  app.frames = (app.frames ?? 0) + 1;
  requestAnimationFrame((next) => frame(app, next));
}

function toggled(id) {
  byId(id).click();
}

function shortcuts(app) {
  byId("forecasts").addEventListener("change", (event) => {
    app.forecasts = event.target.checked;
    app.painter.hurry();
  });
  byId("ids").addEventListener("change", (event) => {
    app.ids = event.target.checked;
  });
  byId("streets").addEventListener("change", (event) => app.streets.show(event.target.checked));
  for (const part of ["figures", "arrivals"]) byId(`tab-${part}`).addEventListener("click", () => showPart(app, part));
  byId("fleet-toggle").addEventListener("click", () => togglePanel(app));
  byId("help-open").addEventListener("click", () => app.keys.help());
  byId("all").addEventListener("click", () => app.shown.showAll());
  if (NARROW.matches) togglePanel(app);
  for (const one of document.querySelectorAll(".legend li")) byId("legend-again").append(one.cloneNode(true));
  return [
    ["/", "/", "search an entity by its id", () => app.search.focus()],
    ["n", "n", "choose the next entity in view", () => app.choice.step(1)],
    ["b", "b", "choose the one before", () => app.choice.step(-1)],
    ["f", "f", "follow the chosen entity, or no longer", () => app.choice.toggleFollow()],
    [" ", "space", "pause, or go on live", () => app.time.toggle()],
    ["[", "[", `${STEP_S} seconds back`, () => app.time.step(-STEP_S)],
    ["]", "]", `${STEP_S} seconds forth`, () => app.time.step(STEP_S)],
    ["l", "l", "live", () => app.time.goLive()],
    ["a", "a", "forecasts of all entities, or of the chosen one only", () => toggled("forecasts")],
    ["i", "i", "ids beside the entities, or beside the chosen one only", () => toggled("ids")],
    ["s", "s", "the fleet's streets, shown or hidden", () => toggled("streets")],
    ["0", "0", "show the whole fleet", () => app.shown.showAll()],
    ["g", "g", "the panel of the fleet, shown or hidden", () => togglePanel(app)],
    ["v", "v", "vehicles and when they are expected where, or figures", () => showPart(app, byId("arrivals").offsetParent === null ? "arrivals" : "figures")],
    ["t", "t", "light or dark", () => app.theme.toggle()],
    ["?", "?", "these shortcuts", () => app.keys.help()],
    ["Escape", "esc", "close the chosen entity", () => app.choice.clear()],
  ];
}

async function askArrivals(app) {
  if (byId("arrivals").offsetParent === null) return; // nobody sees them
  const said = await ask("map/arrivals").catch(() => null); // the connection's own line says why
  if (said !== null) app.arrivalsPanel.show(said);
}

/** Shows this part of the fleet's panel, figures or arrivals, and opens that. */
function showPart(app, part) {
  if (byId("fleet").offsetParent === null) togglePanel(app);
  for (const one of ["figures", "arrivals"]) {
    byId(one).hidden = one !== part;
    byId(`tab-${one}`).setAttribute("aria-pressed", String(one === part));
  }
  askArrivals(app);
}

function togglePanel(app) {
  const panel = byId("fleet");
  const isCovered = NARROW.matches && app.choice.id !== null;
  panel.hidden = isCovered ? false : !panel.hidden;
  if (isCovered) app.choice.clear();
  byId("fleet-toggle").setAttribute("aria-expanded", String(!panel.hidden));
}

start();
