// Which entities have their ids beside them, and on which side, so that no id covers another one, an arrow, or a name of
// a horizon. Pure functions: no canvas, no clock.

const FEW = 60; // entities in view have their ids at any zoom,
const NEAR_ZOOM = 13.5; // and more of them from here on: streets are apart then
const CROWD = 400; // of so many in view hardly one would find room
const MOST = 80; // ids at once: people read no more of them
const MOST_SIGNS = 16; // of an id on the map: the panel has it whole
const ARROW_PX = 7; // half of what an arrow covers
const AWAY_PX = 12; // from the middle of an arrow, so that the ring around the chosen one stays free, too
const SIDES = ["right", "left", "below", "above"];

const signs = new Intl.Segmenter("en", { granularity: "grapheme" });

/** An id as the map has room for it: its beginning and its end, for ids of a fleet often begin alike. Signs that are not
 * seen, or that turn others around, are left out. */
export function shortened(id) {
  const seen = [...signs.segment(id.replace(/\p{C}/gu, "").trim().slice(0, 1_000))].map((one) => one.segment);
  if (!seen.length) return "?";
  if (seen.length <= MOST_SIGNS) return seen.join("");
  const half = MOST_SIGNS / 2;
  return `${seen.slice(0, half - 1).join("")}…${seen.slice(-half).join("")}`;
}

/** Whether there is room for ids of others than the chosen one, with so many entities in view. */
export const isRoom = (count, zoom) => count <= FEW || (count <= CROWD && zoom >= NEAR_ZOOM);

const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

export const free = (box, taken) => !taken.some((other) => overlap(box, other));

export const around = (x, y, half) => ({ left: x - half, top: y - half, right: x + half, bottom: y + half });

/** The box of a text beside an arrow that is at (x, y). */
export function beside(side, x, y, wide, high) {
  const left = { right: x + AWAY_PX, left: x - AWAY_PX - wide }[side] ?? x - wide / 2;
  const top = { below: y + AWAY_PX, above: y - AWAY_PX - high }[side] ?? y - high / 2;
  return { left, top, right: left + wide, bottom: top + high };
}

/** The side that is free for a text, that of before if it is; null if none is. */
function sideOf({ x, y, wide, high, side }, taken, view) {
  const order = side === undefined ? SIDES : [side, ...SIDES];
  const within = (box) => box.left >= 0 && box.top >= 0 && box.right <= view.width && box.bottom <= view.height;
  return order.find((one) => {
    const box = beside(one, x, y, wide, high);
    return within(box) && free(box, taken);
  }) ?? null;
}

/** Places texts [{id, x, y, wide, high, side}], the most wanted first, where `taken` leaves room; the boxes of those that
 * found some are added to it. One that is `forced` is always there. Returns them with their side and box. */
export function place(texts, taken, view) {
  const found = [];
  for (const text of texts) {
    if (found.length >= MOST) break;
    const side = sideOf(text, taken, view) ?? (text.forced ? SIDES[0] : null);
    if (side === null) continue;
    const box = beside(side, text.x, text.y, text.wide, text.high);
    taken.push(box);
    found.push({ ...text, side, box });
  }
  return found;
}

/** What arrows cover, of [mover, x, y]. */
export const arrows = (placed) => placed.map(([, x, y]) => around(x, y, ARROW_PX));
