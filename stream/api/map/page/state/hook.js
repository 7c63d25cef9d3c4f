// What is drawn, for tests and for people at the console: `pathcast.state()`. It only reads.

export function hook(app) {
  return Object.freeze({
    state() {
      const { painter, shown, choice, time, link, camera } = app;
      const { lng, lat } = camera.map.getCenter();
      return {
        link: link.kind,
        server: app.serverId ?? null,
        mode: time.mode,
        at_ms: time.shownMs,
        past_ms: shown.pastMs,
        told_ms: shown.fleet.toldMs ?? null,
        drawn: painter.placed.map(([mover, x, y, ts]) => ({ id: mover.id, x, y, ts, stale: mover.entity.stale, track: mover.track.length, branches: mover.entity.branches ?? [] })),
        labels: painter.labels.map(({ id, text, side, box }) => ({ id, text, side, ...box })),
        known: shown.fleet.movers.size,
        more: shown.live.more,
        fills: [...shown.fleet.fills.values()].map((fill) => ({ id: fill.id, final: fill.final })),
        streets: app.streets.count,
        streets_drawn: app.streets.drawn,
        streets_version: app.streets.drawnVersion,
        chosen: choice.id,
        following: choice.following,
        former: choice.formerUntil(time.atMs).length,
        chosen_drawn: painter.drawn,
        fleet: app.fleet ?? null,
        theme: app.theme.name,
        zoom: camera.map.getZoom(),
        center: [lat, lng],
        frames: app.frames ?? 0,
      };
    },
  });
}
