// The connection to the server: one stream of events for the box that is shown, questions, and what is known when
// neither works. Tries again by itself; a missing token is told from a server that is away.

const FIRST_RETRY_MS = 1_000;
const LONGEST_RETRY_MS = 10_000;

export class Denied extends Error {}

export async function ask(path) {
  const answer = await fetch(path, { headers: { Accept: "application/json" }, credentials: "same-origin" });
  if (answer.status === 401 || answer.status === 403) throw new Denied(path);
  if (answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

export class Link {
  /** `hear` has a function for each event (snapshot, delta, fleet), and `state({kind, retryAt})`. */
  constructor(hear) {
    this._hear = hear;
    this._path = null;
    this._source = null;
    this._timer = null;
    this._waitMs = FIRST_RETRY_MS;
    this.kind = "connecting";
  }

  /** Follows this box and this entity from now on. */
  open(box, entity) {
    const chosen = entity === null ? "" : `&entity=${encodeURIComponent(entity)}`;
    this._path = `map/stream?bbox=${box}${chosen}`;
    if (this.kind !== "away" && this.kind !== "denied") this._connect();
  }

  /** Tries at once, whatever the wait was. */
  retry() {
    clearTimeout(this._timer);
    if (this._path !== null) this._connect();
  }

  _connect() {
    this._source?.close();
    const source = new EventSource(this._path);
    this._source = source;
    for (const name of ["snapshot", "delta", "fleet"]) {
      source.addEventListener(name, (event) => {
        if (this._source !== source) return;
        this._say("live");
        this._waitMs = FIRST_RETRY_MS;
        this._hear[name](JSON.parse(event.data));
      });
    }
    source.addEventListener("open", () => {
      if (this._source === source && this.kind !== "live") this._say("connecting"); // the first events are on their way
    });
    source.addEventListener("error", () => {
      if (this._source === source) this._lost();
    });
  }

  _lost() {
    this._source.close();
    this._source = null;
    const retryAt = performance.now() + this._waitMs;
    this._say("away", retryAt);
    clearTimeout(this._timer);
    this._timer = setTimeout(() => this._probe(), this._waitMs);
    this._waitMs = Math.min(LONGEST_RETRY_MS, this._waitMs * 2);
  }

  /** An EventSource does not tell why it failed, and an ordinary request does. */
  async _probe() {
    try {
      await this._hear.config(await ask("map/config"));
    } catch (error) {
      if (error instanceof Denied) this._say("denied");
      else this._lostAgain();
      return;
    }
    this._connect();
  }

  _lostAgain() {
    this._say("away", performance.now() + this._waitMs);
    this._timer = setTimeout(() => this._probe(), this._waitMs);
    this._waitMs = Math.min(LONGEST_RETRY_MS, this._waitMs * 2);
  }

  _say(kind, retryAt = null) {
    this.kind = kind;
    this._hear.state({ kind, retryAt });
  }
}
