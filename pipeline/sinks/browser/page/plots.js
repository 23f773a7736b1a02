// The last minute of a stream as curves.

const SPAN_MS = 60_000;
const MOST = 6000; // points that are kept

export class Plots {
  constructor(root) {
    this.points = [];
    this.plots = [
      new Plot(root, "Latency", "ms", "from capture to drawn", (p) => p.latency, { from: 0 }),
      new Plot(root, "Fidelity", "dB", "agreement with what was measured; dots: a tile below the limit", (p) => p.fidelity, { marked: (p) => p.below }),
    ];
  }

  draw(points) {
    if (this.plots[0].canvas.offsetParent === null) return; // not seen
    for (const plot of this.plots) plot.draw(points);
  }
}

/** Add a point, and forget what is older than the span. */
export function keep(points, point) {
  points.push(point);
  const since = point.at - SPAN_MS;
  while (points.length > MOST || points[0].at < since) points.shift();
}

class Plot {
  constructor(root, title, unit, meaning, value, { from, marked } = {}) {
    Object.assign(this, { title, unit, value, from, marked });
    const figure = document.createElement("figure");
    this.caption = document.createElement("figcaption");
    this.caption.innerHTML = "<b></b><span></span><output></output>";
    this.caption.children[0].textContent = title;
    this.caption.children[1].textContent = meaning;
    this.canvas = document.createElement("canvas");
    this.canvas.role = "img";
    this.tell("not measured");
    figure.append(this.caption, this.canvas);
    root.append(figure);
  }

  tell(words) {
    this.caption.children[2].textContent = words;
    this.canvas.ariaLabel = `${this.title} over the last minute: ${words}`;
  }

  draw(points) {
    const known = points.map((p) => [p.at, this.value(p)]).filter(([, v]) => v !== null && v !== undefined);
    const sorted = known.map(([, v]) => v).sort((a, b) => a - b);
    const at = (share) => sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
    const told = sorted.length
      ? `now ${known.at(-1)[1].toFixed(1)}, median ${at(0.5).toFixed(1)}, p95 ${at(0.95).toFixed(1)} ${this.unit}`
      : "not measured";
    this.tell(told);
    const [least, most] = [sorted[0], sorted.at(-1)];
    const low = this.from ?? Math.floor(least - 1);
    const high = Math.ceil(this.from === undefined ? most + 1 : most * 1.15);
    const marks = this.marked ? points.filter(this.marked).map((p) => p.at) : [];
    this.paint(known, sorted.length ? [low, high] : [0, 1], marks);
  }

  paint(known, [low, high], marks) {
    const { canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const [wide, tall] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = wide * ratio;
    canvas.height = tall * ratio;
    const context = canvas.getContext("2d");
    context.scale(ratio, ratio);
    context.font = "11px system-ui, sans-serif";
    const [left, bottom] = [36, tall - 16];
    const now = performance.now();
    const x = (time) => left + ((time - now + SPAN_MS) / SPAN_MS) * (wide - left - 4);
    const y = (value) => bottom - ((value - low) / (high - low || 1)) * (bottom - 8);
    context.strokeStyle = "#26323b";
    context.fillStyle = "#9fb0bd";
    for (const share of [0, 0.5, 1]) {
      const value = low + share * (high - low);
      line(context, [[left, y(value)], [wide - 4, y(value)]]);
      context.textAlign = "right";
      context.fillText(value.toFixed(0), left - 6, y(value) + 4);
    }
    context.textAlign = "left";
    context.fillText("-60 s", left, tall - 3);
    context.textAlign = "right";
    context.fillText("now", wide - 4, tall - 3);
    context.strokeStyle = "#4fd1c5";
    context.lineWidth = 1.5;
    line(context, known.map(([time, value]) => [x(time), y(value)]));
    context.fillStyle = "#ffb84d";
    for (const time of marks) context.fillRect(x(time) - 1.5, bottom - 4, 3, 3);
  }
}

function line(context, points) {
  context.beginPath();
  points.forEach(([x, y], index) => (index ? context.lineTo(x, y) : context.moveTo(x, y)));
  context.stroke();
}
