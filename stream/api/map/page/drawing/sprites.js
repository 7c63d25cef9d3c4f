// Small pictures of an entity, one for each heading, as lists of pixels, and a canvas that they are copied into. A frame
// of 5,000 of them is some 400,000 numbers to write; as pictures for the browser to draw, it would take ten times as long.

const HEADINGS = 32;
const HALF_PX = 9; // of a picture's side
const TURN = 2 * Math.PI;
const OPAQUE = 128; // of 255: where two pictures meet, only what is denser than this covers the other

/** A stale entity is hollow: a difference that needs no eye for colours. */
function drawn(context, colours, isStale, heading) {
  context.save();
  context.beginPath();
  if (heading === HEADINGS) {
    context.arc(0, 0, 3, 0, TURN);
  } else {
    context.rotate((heading / HEADINGS) * TURN);
    context.moveTo(0, -6.5);
    context.lineTo(4.2, 4.6);
    context.lineTo(0, 2.4);
    context.lineTo(-4.2, 4.6);
    context.closePath();
  }
  context.lineWidth = isStale ? 3.4 : 1.6;
  context.strokeStyle = colours.edge;
  context.stroke();
  context.fillStyle = isStale ? colours.edge : colours.accent;
  context.fill();
  if (isStale) {
    context.lineWidth = 1.4;
    context.strokeStyle = colours.stale;
    context.stroke();
  }
  context.restore();
}

/** The pixels of one picture that are not empty: places from its upper left corner, and their colours. */
function pixels(context, side) {
  const { data } = context.getImageData(0, 0, side, side);
  const colours = new Uint32Array(data.buffer);
  const places = [];
  for (let i = 0; i < colours.length; i += 1) if (data[4 * i + 3] > 8) places.push(i);
  return {
    x: Int16Array.from(places, (i) => i % side),
    y: Int16Array.from(places, (i) => Math.floor(i / side)),
    colour: Uint32Array.from(places, (i) => colours[i]),
    covers: Uint8Array.from(places, (i) => (data[4 * i + 3] >= OPAQUE ? 1 : 0)),
  };
}

export class Sprites {
  /** `ratio` has the canvas's pixels for one of the page, and `size` makes the pictures smaller. */
  constructor(colours, ratio, size) {
    [this.ratio, this.size] = [ratio, size];
    this._half = Math.ceil(HALF_PX * ratio * size);
    const side = 2 * this._half;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [side, side];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    const one = (isStale, heading) => {
      context.clearRect(0, 0, side, side);
      context.setTransform(ratio * size, 0, 0, ratio * size, this._half, this._half);
      drawn(context, colours, isStale, heading);
      context.setTransform(1, 0, 0, 1, 0, 0);
      return pixels(context, side);
    };
    this._pictures = [false, true].map((isStale) => Array.from({ length: HEADINGS + 1 }, (_, heading) => one(isStale, heading)));
  }

  /** Copies the pictures of all entities of [mover, x, y] onto a canvas, and empties the rest of it: stale ones below the
   * others, and the chosen one on top. */
  copy(layer, view, placed, chosen) {
    const context = layer.begin(view);
    const { width, height } = layer.canvas;
    if (this._image?.width !== width || this._image?.height !== height) {
      this._image = new ImageData(Math.max(1, width), Math.max(1, height));
      this._words = new Uint32Array(this._image.data.buffer);
    }
    this._words.fill(0);
    const put = ([mover, x, y]) => this._put(mover, Math.round(x * this.ratio), Math.round(y * this.ratio), width, height);
    for (const one of placed) if (one[0].entity.stale) put(one);
    for (const one of placed) if (!one[0].entity.stale) put(one);
    const top = chosen === null ? undefined : placed.find(([mover]) => mover.id === chosen);
    if (top !== undefined) put(top);
    context.putImageData(this._image, 0, 0);
  }

  _put(mover, middleX, middleY, width, height) {
    const turn = Math.round((mover.heading / TURN) * HEADINGS);
    const heading = mover.moving ? ((turn % HEADINGS) + HEADINGS) % HEADINGS : HEADINGS;
    const { x, y, colour, covers } = this._pictures[mover.entity.stale ? 1 : 0][heading];
    const left = middleX - this._half;
    const top = middleY - this._half;
    const words = this._words;
    for (let i = 0; i < colour.length; i += 1) {
      const px = left + x[i];
      const py = top + y[i];
      if (px < 0 || py < 0 || px >= width || py >= height) continue;
      const at = py * width + px;
      if (covers[i] === 1 || words[at] === 0) words[at] = colour[i];
    }
  }
}
