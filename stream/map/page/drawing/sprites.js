// Small pictures of an entity, drawn once for each heading: to copy one is several times as fast as to draw it.

const HEADINGS = 32;
const SIDE_PX = 18; // of a picture, and of the gap to the next one
const TURN = 2 * Math.PI;

export class Sprites {
  constructor(colours) {
    this.ratio = Math.min(2, window.devicePixelRatio || 1);
    this.canvas = document.createElement("canvas");
    this.canvas.width = SIDE_PX * this.ratio * (HEADINGS + 1);
    this.canvas.height = SIDE_PX * this.ratio * 2;
    const context = this.canvas.getContext("2d");
    context.scale(this.ratio, this.ratio);
    [colours.accent, colours.stale].forEach((colour, row) => {
      for (let column = 0; column <= HEADINGS; column += 1) this._draw(context, colours, colour, row, column);
    });
  }

  _draw(context, colours, colour, row, column) {
    context.save();
    context.translate((column + 0.5) * SIDE_PX, (row + 0.5) * SIDE_PX);
    context.beginPath();
    if (column === HEADINGS) {
      context.arc(0, 0, 3, 0, TURN);
    } else {
      context.rotate((column / HEADINGS) * TURN);
      context.moveTo(0, -6.5);
      context.lineTo(4.2, 4.6);
      context.lineTo(0, 2.4);
      context.lineTo(-4.2, 4.6);
      context.closePath();
    }
    context.lineWidth = 1.6;
    context.strokeStyle = colours.edge;
    context.stroke();
    context.fillStyle = colour;
    context.fill();
    context.restore();
  }

  /** Copies an entity's picture to this place. */
  put(context, mover, x, y) {
    const turn = Math.round((mover.heading / TURN) * HEADINGS);
    const column = mover.moving ? ((turn % HEADINGS) + HEADINGS) % HEADINGS : HEADINGS;
    const side = SIDE_PX * this.ratio;
    const row = mover.entity.stale ? side : 0;
    context.drawImage(this.canvas, column * side, row, side, side, x - SIDE_PX / 2, y - SIDE_PX / 2, SIDE_PX, SIDE_PX);
  }
}
