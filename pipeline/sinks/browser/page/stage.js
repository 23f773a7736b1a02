// The canvas: the newest picture, fitted, zoomed and panned as the view says; and what a pointer does to it. What is drawn
// on the picture follows its own header: the view may be ahead of it.

const EDGE_PX = 24; // around the edge of a wipe, where it can be taken
const SMALLEST_PX = 5; // of a drag that marks a region
const HELD_MS = 500; // that a finger rests, after which a drag of it marks a region
const RESTING_PX = 10; // within which it does
const MOST_ZOOM = 16;
const SR = "SR";
const NAMES = {
  wipe: ["bicubic", SR],
  "side-by-side": ["bicubic", SR],
  "raw-beside": ["raw", SR],
  bicubic: ["bicubic"],
  raw: ["raw"],
}; // of what is seen, from left to right, where not all of it is SR
const [ACCENT, AMBER] = ["#4fd1c5", "#ffb84d"];

export class Stage {
  /** `act(name, ...values)` does an action with values for its arguments, in order. */
  constructor(root, act) {
    this.canvas = root.querySelector(".picture");
    this.marked = root.querySelector(".region");
    this.ruler = root.querySelector(".ruler");
    this.context = this.canvas.getContext("2d", { alpha: false });
    this.act = act;
    this.view = null;
    this.aspect = 1;
    this.covered = 0; // rows at the top where something stands over the picture
    this.old = false;
    this.pointers = new Map();
    this.drag = null;
    new ResizeObserver(() => this.redraw()).observe(this.canvas);
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel", "wheel", "dblclick"]) {
      this.canvas.addEventListener(kind, (event) => this[kind](event), { passive: false });
    }
    this.canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  }

  show(header, bitmap) {
    this.bitmap?.close();
    this.bitmap = bitmap;
    this.header = header;
    this.redraw();
  }

  /** Show nothing. */
  clear() {
    this.bitmap?.close();
    this.bitmap = this.header = this.view = this.drag = null;
    this.redraw();
  }

  /** Write nothing into the first `rows` CSS pixels; in an `old` picture nothing is to be measured. */
  keepClear(rows, old) {
    if (rows === this.covered && old === this.old) return;
    this.covered = rows;
    this.old = old;
    this.redraw();
  }

  /** How the picture was drawn; nothing of a replay's. */
  get drawn() {
    return this.header?.view ?? {};
  }

  /** How many images stand side by side in the picture. */
  get panes() {
    return Math.max(1, Math.round(this.bitmap.width / (this.header.sr_shape?.[1] ?? this.bitmap.width)));
  }

  /** Where a pane stands on the canvas (x, y, width, height), and the whole of its image (left, top, w, h), which may
   *  reach beyond; in CSS pixels. All panes show the same part. */
  place() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    const [across, down] = [(this.bitmap.width / this.panes) * this.aspect, this.bitmap.height];
    const fit = Math.min(wide / (across * this.panes), high / down);
    const zoom = this.view?.zoom ?? 1;
    const [w, h] = [across * fit * zoom, down * fit * zoom];
    const width = Math.min(w, wide / this.panes);
    const height = Math.min(h, high);
    const [x, y] = [(wide - width * this.panes) / 2, (high - height) / 2];
    const [cx, cy] = this.view?.centre ?? [0.5, 0.5];
    const along = (room, size, centre) => Math.min(0, Math.max(room - size, room / 2 - centre * size));
    return { x, y, width, height, w, h, left: along(width, w, cx), top: along(height, h, cy) };
  }

  redraw() {
    const { clientWidth: wide, clientHeight: high } = this.canvas;
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [Math.max(1, Math.round(wide * ratio)), Math.max(1, Math.round(high * ratio))];
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
    }
    const { context, bitmap } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = "#000";
    context.fillRect(0, 0, wide, high);
    this.marked.hidden = this.ruler.hidden = true;
    if (!bitmap) return;
    const { panes } = this;
    const at = this.place();
    const part = bitmap.width / panes;
    context.imageSmoothingEnabled = at.w * ratio < 4 * part; // single pixels are seen as such
    context.imageSmoothingQuality = "medium";
    for (let pane = 0; pane < panes; pane += 1) {
      this.inPane(at, pane, (x, y) => context.drawImage(bitmap, pane * part, 0, part, bitmap.height, x, y, at.w, at.h));
    }
    this.markWorst(at);
    this.nameImages(at);
    this.markRegion(at);
    this.drawRuler(at);
  }

  /** `paint(x, y)`, where the whole image of a pane begins; what is beyond the pane is cut. */
  inPane(at, pane, paint) {
    const { context } = this;
    context.save();
    context.beginPath();
    context.rect(at.x + pane * at.width, at.y, at.width, at.height);
    context.clip();
    paint(at.x + pane * at.width + at.left, at.y + at.top);
    context.restore();
  }

  /** The edge of a wipe, or the seam of two images, and what each of them is. */
  nameImages(at) {
    const names = NAMES[this.drawn.mode];
    if (!names) return;
    const wipe = this.drawn.mode === "wipe";
    const edge = at.x + (wipe ? at.left + this.drawn.wipe * at.w : at.width);
    const seen = edge >= at.x && edge <= at.x + at.width * this.panes;
    if (names.length > 1 && seen) {
      this.context.fillStyle = ACCENT;
      this.context.fillRect(edge - 1, at.y, 2, at.height);
    }
    const top = Math.max(at.y, this.covered) + 8;
    names.forEach((named, index) => {
      const name = named === SR && this.header.outcome === "failed" ? "bicubic" : named;
      if (!wipe) this.write(name, at.x + index * at.width + 8, top);
      else if (seen) this.write(name, index ? edge + 6 : edge - 6, top, !index);
      else if (edge < at.x === Boolean(index)) this.write(name, at.x + 8, top); // all that is seen is of this side
    });
  }

  write(words, x, y, leftwards = false) {
    const { context } = this;
    context.font = "600 13px system-ui, sans-serif";
    context.textBaseline = "middle";
    const wide = context.measureText(words).width + 16;
    const left = leftwards ? x - wide : x;
    context.fillStyle = "#07090bcc";
    context.fillRect(left, y, wide, 24);
    context.fillStyle = "#e8eff3";
    context.fillText(words, left + 8, y + 12.5);
  }

  /** Corners around the tile that disagrees most with what was measured, where that is below the limit. */
  markWorst(at) {
    const tile = this.header.worst_tile;
    if (!tile) return;
    const { context } = this;
    this.inPane(at, this.panes - 1, (x, y) => {
      const [left, right] = [tile[0], tile[2]].map((share) => x + share * at.w);
      const [top, bottom] = [tile[1], tile[3]].map((share) => y + share * at.h);
      const arm = Math.max(4, Math.min(right - left, bottom - top) / 4);
      context.beginPath();
      for (const [row, down] of [[top, arm], [bottom, -arm]]) {
        for (const [column, along] of [[left, arm], [right, -arm]]) {
          context.moveTo(column, row + down);
          context.lineTo(column, row);
          context.lineTo(column + along, row);
        }
      }
      for (const [colour, thick] of [["#000", 5], [AMBER, 2]]) {
        context.strokeStyle = colour;
        context.lineWidth = thick;
        context.stroke();
      }
    });
  }

  /** The captured pixels that the picture shows: [left, top, width, height]; null for a replay. */
  get captured() {
    const { captured_shape: raw, sr_shape: sr, scale, corner } = this.header ?? {};
    if (!raw) return null;
    if (this.drawn.mode === "raw") return [0, 0, raw[1], raw[0]];
    return [...corner, sr[1] / scale, sr[0] / scale];
  }

  markRegion(at) {
    const region = this.drag?.region ?? this.view?.region;
    const seen = this.captured;
    this.marked.hidden = !region || !seen;
    if (this.marked.hidden) return;
    const [x, y, w, h] = region;
    const [left, top, columns, rows] = seen;
    Object.assign(this.marked.style, {
      left: `${at.x + at.left + ((x - left) / columns) * at.w}px`,
      top: `${at.y + at.top + ((y - top) / rows) * at.h}px`,
      width: `${(w / columns) * at.w}px`,
      height: `${(h / rows) * at.h}px`,
    });
  }

  drawRuler(at) {
    const um = this.pixelUm;
    const seen = this.captured;
    this.ruler.hidden = !(this.view?.scale_bar && um && seen) || this.old;
    if (this.ruler.hidden) return;
    const perUm = at.w / (seen[2] * um);
    const length = roundLength((at.width / 4) / perUm);
    this.ruler.style.width = `${length * perUm}px`;
    this.ruler.style.right = `${this.canvas.clientWidth - at.x - at.width * this.panes + 18}px`;
    this.ruler.firstElementChild.textContent = length < 1000 ? `${length} µm` : `${length / 1000} mm`;
  }

  /** The place of an event in the image, as shares of its width and height. */
  share(event) {
    const at = this.place();
    const box = this.canvas.getBoundingClientRect();
    const x = event.clientX - box.left - at.x;
    const pane = Math.min(this.panes - 1, Math.max(0, Math.floor(x / at.width)));
    return [(x - pane * at.width - at.left) / at.w, (event.clientY - box.top - at.y - at.top) / at.h];
  }

  pointerdown(event) {
    if (!this.bitmap || !this.view) return;
    this.pointers.set(event.pointerId, event);
    this.canvas.setPointerCapture(event.pointerId);
    const [x, y] = this.share(event);
    this.down = event;
    this.rest();
    const near = this.drawn.mode === "wipe" && Math.abs(x - this.drawn.wipe) * this.place().w < EDGE_PX;
    if (this.pointers.size === 2) {
      const { apart, middle } = this.fingers();
      this.drag = { kind: "pinch", apart, at: this.share(middle), zoom: this.view.zoom, centre: this.middle() };
    }
    if (this.pointers.size > 1) return;
    const region = { kind: "region", x, y, from: event };
    if (event.button === 2 || event.shiftKey) this.drag = region;
    else if (near) this.drag = { kind: "wipe" };
    else if (this.view.zoom > 1) this.drag = { kind: "pan", from: event, centre: this.middle() };
    else this.drag = null;
    if (event.pointerType === "touch" && !near) this.held = setTimeout(() => this.hold(region), HELD_MS);
  }

  /** A finger has rested: it marks a region. */
  hold(region) {
    this.drag = region;
    this.canvas.classList.add("marking");
  }

  /** No finger does. */
  rest() {
    clearTimeout(this.held);
    this.canvas.classList.remove("marking");
  }

  /** The centre that is really shown: at a border the view's own may lie beyond. */
  middle() {
    const at = this.place();
    return [(at.width / 2 - at.left) / at.w, (at.height / 2 - at.top) / at.h];
  }

  pointermove(event) {
    if (!this.pointers.has(event.pointerId)) return;
    this.pointers.set(event.pointerId, event);
    if (distance(event, this.down) > RESTING_PX) clearTimeout(this.held);
    if (!this.drag) return;
    const [x, y] = this.share(event);
    const { kind } = this.drag;
    if (kind === "wipe") this.act("wipe", clamp(x));
    if (kind === "pinch") this.zoomTo((this.drag.zoom * this.fingers().apart) / this.drag.apart, this.drag.at, this.drag);
    if (kind === "pan") {
      const at = this.place();
      const [cx, cy] = this.drag.centre;
      const { clientX, clientY } = this.drag.from;
      this.act("centre", clamp(cx - (event.clientX - clientX) / at.w), clamp(cy - (event.clientY - clientY) / at.h));
    }
    if (kind === "region") {
      const { clientX, clientY } = this.drag.from;
      const least = event.pointerType === "touch" ? RESTING_PX : SMALLEST_PX; // a finger that rests trembles
      const far = Math.max(Math.abs(event.clientX - clientX), Math.abs(event.clientY - clientY)) >= least;
      this.drag.region = far ? this.regionTo(x, y) : undefined;
      this.markRegion(this.place());
    }
  }

  pointerup(event) {
    if (this.drag?.region) this.act("region", ...this.drag.region);
    else if (this.drag?.kind === "region" && this.view?.region) this.act("region", 0, 0, 0, 0); // a click takes it away
    this.pointercancel(event);
  }

  pointercancel(event) {
    this.rest();
    this.pointers.delete(event.pointerId);
    this.drag = null;
  }

  wheel(event) {
    if (!this.bitmap || !this.view) return;
    event.preventDefault();
    const from = { zoom: this.view.zoom, centre: this.middle() };
    this.zoomTo(from.zoom * Math.exp(-event.deltaY / 400), this.share(event), from);
  }

  dblclick() {
    this.act("zoom", 1);
  }

  /** Zoom so that the place `at` stays where it was, at the `zoom` and `centre` of then. */
  zoomTo(wanted, at, { zoom, centre }) {
    const next = Math.min(MOST_ZOOM, Math.max(1, wanted));
    this.act("centre", ...at.map((share, axis) => clamp(share + ((centre[axis] - share) * zoom) / next)));
    this.act("zoom", next);
  }

  regionTo(x, y) {
    if (!this.captured) return null;
    const [x0, y0, columns, rows] = this.captured;
    const [left, right] = [this.drag.x, x].map((share) => Math.round(x0 + clamp(share) * columns)).sort((a, b) => a - b);
    const [top, bottom] = [this.drag.y, y].map((share) => Math.round(y0 + clamp(share) * rows)).sort((a, b) => a - b);
    return [left, top, Math.max(1, right - left), Math.max(1, bottom - top)];
  }

  /** How far two fingers are apart, and their middle. */
  fingers() {
    const [a, b] = [...this.pointers.values()];
    const middle = { clientX: (a.clientX + b.clientX) / 2, clientY: (a.clientY + b.clientY) / 2 };
    return { apart: distance(a, b) || 1, middle };
  }
}

const distance = (a, b) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);

/** The longest of 1, 2 or 5 times a power of ten that is at most `most`. */
function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return Number(([5, 2, 1].find((each) => each * power <= most * (1 + 1e-9)) * power).toPrecision(3));
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}
