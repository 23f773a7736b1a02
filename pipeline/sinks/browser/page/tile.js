// A tile of the page: the picture of a stream or of a replay, with all that is said over it.

import { meant } from "./controls.js";
import { ageOf, ageText, fill, hudOf, recordingOf, stateOf } from "./hud.js";
import { keep } from "./plots.js";
import { Link } from "./socket.js";
import { Stage } from "./stage.js";

const SAID_MS = 6000; // that an action's answer is shown
const find = (id) => document.getElementById(id);

/** A tile with a picture: a live stream, or the replay of a session. */
export class Tile {
  /** `page` has `choose(tile)`, the `others(tile)`, `over(tile)` for a replay that ends, `alarmed()` for what must be seen
   *  now, and is told which streams are `listed`, and when a tile is `renewed`, what it tells `seen`, or it `ticked`. */
  constructor(address, page, replay) {
    this.page = page;
    this.root = find("stage").content.firstElementChild.cloneNode(true);
    this.part = (name) => this.root.querySelector(`.${name}`);
    this.stage = new Stage(this.root, (name, ...values) => this.push(name, values));
    this.actions = [];
    this.points = [];
    this.recordings = 0; // that have begun, as far as they can be told from each other
    this.pushing = new Map();
    this.replay = replay;
    this.part("alarm").querySelector("button").onclick = () => this.call("acknowledge");
    this.root.addEventListener("pointerdown", () => page.choose(this), true);
    this.root.addEventListener("focusin", () => page.choose(this));
    this.tick();
    find("stages").append(this.root);
    this.link = new Link(address, this, !replay);
  }

  opened() {
    this.open = this.known = true;
    this.refused = false;
    if (this.quality !== undefined) this.link.send({ quality: this.quality });
    this.tick();
  }

  cut() {
    this.open = false;
    this.recordings += 1; // nobody hears of it where one follows another
    if (this.replay) this.page.over(this);
    this.tick();
  }

  /** The token is that of an earlier run. */
  refuse() {
    this.refused = true;
    this.tick();
  }

  text(kind, value) {
    if (kind === "hello" && value.run !== this.hello?.run) this.forget();
    if (kind === "status" && !(value.recording_s >= (this.status?.recording_s ?? Infinity))) this.recordings += 1;
    this[kind] = value;
    if (kind === "hello" && !this.replay) {
      this.actions = value.actions;
      this.stage.aspect = value.aspect;
      this.part("legend").querySelector("img").src = value.legend;
      this.page.renewed(this);
    }
    if (kind === "view") {
      this.stage.view = value;
      this.stage.redraw();
      if (value.said && value.said !== this.told) this.say(value.said);
      this.told = value.said;
    }
    if (kind === "streams") this.page.listed(value);
    if (kind === "map") this.showMap(value);
    if (kind === "status") this.stage.pixelUm = value.pixel_um;
    if (kind === "view" || kind === "status") this.page.seen(this);
    if (kind === "playing") this.buttons.update(value);
    if (kind === "ended" && this.replay) this.link.close();
    this.tick();
  }

  /** What is known of an earlier run says nothing of the one that has begun. */
  forget() {
    this.status = this.view = this.header = this.last = this.told = undefined;
    this.ended = false;
    this.points = [];
    this.showMap(null);
    this.stage.clear();
  }

  /** The present values of what actions change, by their names. */
  get present() {
    const { scale, temporal, cores } = this.status ?? {};
    return { ...this.view, scale: scale || undefined, temporal, cores };
  }

  /** The map of the frames so far, as the address of a picture; null takes it away. */
  showMap(address) {
    const map = this.part("map");
    map.hidden = !address;
    if (address) map.querySelector("img").src = address;
  }

  async picture(header, blob) {
    const { hello } = this;
    const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
    if (hello?.run !== this.hello?.run) return bitmap.close(); // of an earlier run
    this.stage.show(header, bitmap);
    this.header = header;
    const now = performance.now();
    if (header.number !== this.last && !this.view?.frozen) {
      keep(this.points, { at: now, latency: ageOf(this, now), fidelity: header.fidelity, below: header.below_limit });
    }
    this.last = header.number;
    this.tick();
  }

  /** Ask for an action; what is told of it is said. */
  async call(name, values = {}) {
    if (name === "acknowledge" && !values.alarm) {
      if (!this.alarm) return this.say("there is no alarm"), {};
      values = { alarm: this.alarm }; // what was seen, whatever came since
    }
    if (name === "record" && this.status) {
      values = this.status.recording ? { to: "stop" } : { ...values, to: "start" }; // as it was seen, whoever was quicker
    }
    if (this.header && meant(this.actions.find((each) => each.name === name), "number")) {
      values = { ...values, number: this.header.number };
    }
    const answer = await this.link.call(name, values);
    if (answer.error) this.say(answer.error, true);
    if (answer.said) this.say((this.told = answer.said)); // the view will say it, too
    return answer;
  }

  /** Ask for an action with values in the order of its arguments; of many in a row only the newest counts. */
  async push(name, values) {
    const action = this.actions.find((each) => each.name === name);
    if (!action) return;
    const given = Object.fromEntries(action.arguments.slice(0, values.length).map((each, i) => [each.name, values[i]]));
    const busy = this.pushing.has(name);
    this.pushing.set(name, given);
    if (busy) return;
    let done;
    while (this.pushing.get(name) !== done) {
      done = this.pushing.get(name);
      await this.call(name, done);
    }
    this.pushing.delete(name);
  }

  say(words, bad = false) {
    const said = this.part("said");
    said.textContent = words;
    said.classList.toggle("bad", bad);
    said.hidden = false;
    clearTimeout(this.saying);
    this.saying = setTimeout(() => (said.hidden = true), SAID_MS);
    find("spoken").textContent = words;
  }

  /** Show what the time has made of the image. */
  tick() {
    const state = stateOf(this);
    this.showAlarm(state);
    this.showState(state);
    const hud = this.view?.hud ?? "over";
    this.root.dataset.hud = this.replay ? "off" : hud;
    this.part("hud").replaceChildren(...hudRows(this.part("hud"), hudOf(this)));
    fill(this.part("recording"), recordingOf(this, this.page.others(this)));
    const title = `${this.hello?.title ?? this.replay?.session ?? "stream"}: ${state.word}`;
    if (this.stage.canvas.ariaLabel !== title) {
      this.stage.canvas.ariaLabel = title;
      find("spoken").textContent = title;
    }
    if (this.view?.asking && this.view.asking !== this.asked) this.say(this.view.asking);
    this.asked = this.view?.asking;
    this.page.ticked(this);
  }

  /** Those that wait, the one that is shown first. */
  get alarms() {
    const { alarm, alarms = [] } = this.status ?? {};
    return alarms.length ? alarms : [alarm].filter(Boolean);
  }

  showAlarm(state) {
    const before = this.alarm ?? "";
    const { alarms } = this;
    this.alarm = alarms[0] ?? "";
    const newest = this.alarm && this.alarm !== before;
    if (newest || (state.kind === "dead" && this.root.dataset.state !== "dead")) this.page.alarmed();
    const banner = this.part("alarm");
    const more = alarms.length - 1;
    const words = more > 0 ? `${this.alarm} (and ${more} more)` : this.alarm;
    if (banner.firstElementChild.textContent !== words) banner.firstElementChild.textContent = words;
    if (newest) banner.scrollTop = 0;
    banner.hidden = !this.alarm;
    banner.querySelector("button").hidden = this.ended || !this.actions.some((each) => each.name === "acknowledge");
  }

  showState(state) {
    const age = ageOf(this);
    this.root.dataset.state = state.kind;
    this.root.classList.toggle("stale", Boolean(state.stale));
    this.part("veil").hidden = !state.stale || !this.header;
    const box = this.part("state");
    const [word, large, detail] = box.children;
    box.hidden = state.kind === "live";
    word.textContent = state.word;
    large.textContent = (state.stale || state.aged) && age !== null ? `${ageText(age)} old` : "";
    detail.textContent = state.detail;
    this.stage.keepClear(box.hidden || state.stale ? 0 : box.offsetTop + box.offsetHeight, Boolean(state.stale));
    const legend = this.part("legend");
    const ends = state.stale ? null : this.header?.legend; // what is not live is not to be measured
    legend.hidden = !ends;
    if (ends) fill(legend.querySelector("div"), [["", ends[0].toFixed(1), ""], ["", `${ends[1].toFixed(1)} and more`, ""]]);
  }

  close() {
    this.link.close();
    this.root.remove();
  }
}

function hudRows(root, rows) {
  const lines = [...root.children];
  return rows.map((words, index) => {
    const line = lines[index] ?? document.createElement("div");
    fill(line, words);
    return line;
  });
}
