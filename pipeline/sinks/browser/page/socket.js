// A socket that comes back by itself, and what goes through it.

const SILENT_MS = 1500; // without a word, after which the connection counts as cut
const OPENING_MS = 1200; // for a connection to open: a new try helps a lost one
const LONG_MS = 12_000; // for each fourth, since a slow network takes long
const LONG_EACH = 4;
const ASLEEP_MS = 1000; // by which the clocks come apart only where the computer slept, or its time was set
const AGAIN_MS = [100, 300]; // before each new try; the last for all that follow
const ENDED_MS = 3000; // before each, once the run has ended: it may begin anew
const ASKED = 3; // tries, after which and after as many more again the server is asked why
const UNAUTHORISED = 401;

/** The calendar's clock less the monotonic one, which stands still while the computer sleeps. */
const clocksApart = () => Date.now() - performance.now();

/**
 * `on` has `text(kind, value)`, `picture(header, blob)`, whose promise is done when it is drawn, `opened()`, `cut()`,
 * and `refuse()` for a server that wants another token. With `lasting` false it ends with its connection, and may be silent.
 */
export class Link {
  constructor(path, on, lasting = true) {
    this.url = `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;
    this.on = on;
    this.lasting = lasting;
    this.answers = new Map();
    this.number = 0;
    this.tries = 0;
    this.open = false;
    this.apart = clocksApart();
    this.connect();
    this.watch = setInterval(() => this.look(), 250);
  }

  connect() {
    const socket = new WebSocket(this.url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    this.heard = performance.now();
    this.drawn = Promise.resolve();
    this.coming = null; // the picture of which not all pieces are here
    socket.onopen = () => {
      this.open = true;
      this.tries = 0;
      this.over = false;
      this.heard = performance.now();
      this.tellTime();
      this.on.opened();
    };
    socket.onmessage = (event) => socket === this.socket && this.take(socket, event.data);
    socket.onclose = () => socket === this.socket && this.lost();
  }

  take(socket, data) {
    if (this.lasting && this.slept) return this.look();
    this.heard = performance.now();
    if (typeof data === "string") {
      for (const [kind, value] of Object.entries(JSON.parse(data))) this.tell(kind, value);
      return;
    }
    const { header, pieces } = this.coming;
    pieces.push(data);
    this.coming.left -= data.byteLength;
    if (this.coming.left > 0) return;
    const blob = new Blob(pieces, { type: header.quality ? "image/jpeg" : "image/png" });
    this.drawn = this.drawn
      .then(() => this.on.picture(header, blob))
      .catch((error) => console.error(error))
      .then(() => socket.readyState === WebSocket.OPEN && socket.send(JSON.stringify({ ack: header.id })));
  }

  tell(kind, value) {
    if (kind === "told") {
      const answer = this.answers.get(value.id);
      this.answers.delete(value.id);
      answer?.(value);
    } else if (kind === "picture") {
      const header = { ...value, captured_at: clocksApart() + value.captured_ms }; // by the calendar
      this.coming = { header, pieces: [], left: value.bytes };
    } else {
      if (kind === "ended") this.over = true;
      this.on.text(kind, value);
    }
  }

  /** Whether the computer did: what came meanwhile would be taken for new. */
  get slept() {
    return Math.abs(clocksApart() - this.apart) > ASLEEP_MS;
  }

  look() {
    const { slept } = this;
    this.apart = clocksApart();
    const long = this.tries > 0 && this.tries % LONG_EACH === 0;
    const patience = this.open ? SILENT_MS : long ? LONG_MS : OPENING_MS;
    if (this.lasting && this.socket && !this.open && long) this.probe(this.socket);
    if (this.lasting && this.socket && (slept || performance.now() - this.heard > patience)) this.lost();
    else this.tellTime();
  }

  /** Our time, by which the server says when an image was captured. */
  tellTime() {
    this.send({ now: performance.now() });
  }

  /** Whether the server answers at once, while `socket` may take long: then it is the one that is lost. */
  async probe(socket) {
    if (this.probing) return;
    this.probing = true;
    const answered = await fetch("/streams", { cache: "no-store", signal: AbortSignal.timeout(OPENING_MS) }).catch(() => null);
    this.probing = false;
    if (answered && socket === this.socket && !this.open) this.lost(0);
  }

  lost(pause = AGAIN_MS[Math.min(this.tries, 1)]) {
    const socket = this.socket;
    this.socket = null;
    this.open = false;
    socket?.close();
    for (const answer of this.answers.values()) answer({ error: "the connection was cut" });
    this.answers.clear();
    this.on.cut();
    if (!this.lasting) {
      this.close();
      return;
    }
    this.heard = performance.now();
    setTimeout(() => this.socket === null && this.lasting && this.connect(), this.over ? ENDED_MS : pause);
    this.tries += 1;
    if (this.tries % ASKED === 0) this.ask();
  }

  /** A socket that is refused looks like one that is lost: ask why. */
  async ask() {
    const { status } = await fetch("/streams", { cache: "no-store" }).catch(() => ({}));
    if (status === UNAUTHORISED && this.lasting && !this.open) this.on.refuse();
  }

  send(message) {
    if (!this.open) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  /** The answer to an action: an object, with `error` where it was refused. */
  call(name, args = {}) {
    const id = ++this.number;
    return new Promise((resolve) => {
      if (!this.send({ call: name, arguments: args, id })) resolve({ error: "there is no connection" });
      else this.answers.set(id, resolve);
    });
  }

  close() {
    this.lasting = false;
    clearInterval(this.watch);
    const socket = this.socket;
    this.socket = null;
    this.open = false;
    socket?.close();
  }
}
