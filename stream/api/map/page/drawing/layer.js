// A canvas over the map, and how positions become its pixels. The map is never turned or tilted, so that this is a
// multiplication and an addition, which thousands of entities a frame can afford.

const TILE_PX = 512; // of the whole world at zoom 0, as MapLibre counts
const FINEST = 2; // pixels of a canvas for one of the page: finer ones cost time and show nothing

export const pixelRatio = () => Math.min(FINEST, window.devicePixelRatio || 1);

/** What the map shows: the middle on the Mercator square, pixels for the whole world, and the map's size. */
export function viewOf(map, { width, height }) {
  const { lng, lat } = map.getCenter();
  const sine = Math.sin((lat * Math.PI) / 180);
  return {
    x: lng / 360 + 0.5,
    y: 0.5 - Math.log((1 + sine) / (1 - sine)) / (4 * Math.PI),
    world: TILE_PX * 2 ** map.getZoom(),
    width,
    height,
  };
}

/** Pixels from the left; the copy of the world that is nearest to the middle. */
export function left(view, x) {
  const away = x - view.x;
  return (away - Math.round(away)) * view.world + view.width / 2;
}

export function top(view, y) {
  return (y - view.y) * view.world + view.height / 2;
}

export class Layer {
  constructor(container, name) {
    this.canvas = document.createElement("canvas");
    this.canvas.className = `layer ${name}`;
    this.canvas.setAttribute("aria-hidden", "true");
    container.append(this.canvas);
    // On the processor: a software renderer of graphics commands needs a second for thousands of small shapes, and the
    // processor some milliseconds, whatever the machine has.
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.view = null;
  }

  /** Empties the canvas, and makes it as large as the view. */
  begin(view) {
    const ratio = pixelRatio();
    const [wide, high] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
    if (this.canvas.width !== wide || this.canvas.height !== high) {
      [this.canvas.width, this.canvas.height] = [wide, high];
    }
    this.context.setTransform(1, 0, 0, 1, 0, 0);
    this.context.clearRect(0, 0, wide, high);
    this.context.setTransform(ratio, 0, 0, ratio, 0, 0);
    this.canvas.style.transform = "";
    this.view = view;
    return this.context;
  }

  /** Waits until everything is drawn, which browsers otherwise put off, so that the time it took can be measured. */
  finish() {
    this.context.getImageData(0, 0, 1, 1);
  }

  /** Moves what was drawn for another view to its place in this one, until it is drawn anew. */
  shift(view) {
    if (this.view === null) return;
    const scale = view.world / this.view.world;
    const x = left(view, this.view.x) - (view.width / 2) * scale;
    const y = top(view, this.view.y) - (view.height / 2) * scale;
    const moved = Math.abs(x) > 0.01 || Math.abs(y) > 0.01 || scale !== 1;
    this.canvas.style.transform = moved ? `translate(${x}px, ${y}px) scale(${scale})` : "";
  }
}
