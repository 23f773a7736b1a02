// The page: a tile for each stream, one of which has the controls.

import { Controls, asked, keyText, showHelp } from "./controls.js";
import { figuresOf, fill } from "./hud.js";
import { Plots } from "./plots.js";
import { Sessions, replayButtons } from "./sessions.js";
import { Tile } from "./tile.js";

const TICK_MS = 100; // between two looks at what time alone changes
const KEYS = { " ": "space", Escape: "esc", PageUp: "page-up", PageDown: "page-down" };
const PRESSED = "button, a, summary, [type=checkbox]"; // what space or Enter presses where it has the focus
const find = (id) => document.getElementById(id);

let chosen = null;
let replaying = null;
let tiles = [];
let alone = null; // the number of the stream that is shown alone
let listed = []; // titles of the streams of which there are tiles
const controls = new Controls(find("controls"), (action, values) => act(action, values));
const plots = new Plots(find("plots"));
const sessions = new Sessions(find("sessions"), startReplay);
const page = {
  choose,
  others: (tile) => tiles.filter((each) => each !== tile),
  over: closeReplay,
  alarmed: () => find("help").open && find("help").close(),
  listed: (titles) => titles.join("\n") !== listed.join("\n") && location.reload(), // one more, or the run is another
  renewed: (tile) => tile === chosen && showChosen(),
  seen: (tile) => tile === chosen && controls.update(tile.present),
  ticked: (tile) => tile === chosen && fill(find("figures"), figuresOf(tile)),
};

/** Do an action of the chosen stream, or of this page. */
async function act(action, values) {
  const [only, ...more] = asked(action);
  const choice = only && !more.length && only.name in values && (only.choices.length || ["int", "float"].includes(only.kind));
  if (action.name === "help") toggleHelp();
  else if (action.name === "full-screen") toggleFullScreen();
  else if (action.name === "quit") askToQuit();
  else if (choice) await chosen.push(action.name, Object.values(values)); // a slider or a list: its newest value counts
  else await chosen.call(action.name, values);
}

/** The streams that are recorded, with which of their recordings it is. */
const recordings = () => new Map(tiles.filter((tile) => tile.status?.recording && !tile.ended).map((tile) => [tile, tile.recordings]));

function askToQuit() {
  const all = tiles.length > 1 ? `, all ${tiles.length} streams,` : "";
  const named = recordings();
  const words = ["", " A recording is running; it will be closed."][named.size] ?? ` ${named.size} recordings are running; they will be closed.`;
  ask(`End the run${all} for everybody who looks at it?${words}`, () => {
    const [now, known] = [[...recordings()], tiles.every((tile) => tile.open || tile.ended)];
    quit(known && now.length > 0 && now.every(([tile, which]) => which === named.get(tile))); // of those that were named, and no other
  });
}

/** End the run. Without being `sure` the server asks where something is recorded, and knows its own question. */
async function quit(sure) {
  const answer = await chosen.call("quit", sure ? { sure } : {});
  if (answer.asking) ask(answer.asking, () => quit(false));
}

/** Ask `words`, and do `yes` where that is the answer. */
function ask(words, yes) {
  const dialog = find("sure");
  find("sure-text").textContent = words;
  dialog.onclose = () => dialog.returnValue === "yes" && yes();
  dialog.returnValue = "no";
  tellAlarms();
  dialog.showModal();
}

/** What the question covers, said in it. */
function tellAlarms() {
  const dead = (tile) => (tile.root.dataset.state === "dead" ? tile.stage.canvas.ariaLabel : "");
  fill(find("sure-alarm"), tiles.flatMap((tile) => [tile.alarm, dead(tile)]).filter(Boolean).map((words) => ["", words, "bad"]), "p");
}

/** The help, beside which all goes on. */
function toggleHelp() {
  const dialog = find("help");
  if (dialog.open) return dialog.close();
  showHelp(find("help-body"), chosen?.actions ?? []);
  dialog.show();
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen().catch(() => chosen.say("this browser has no full screen", true));
}

function choose(tile) {
  if (tile === chosen || tile.replay) return;
  chosen = tile;
  for (const each of tiles) each.root.classList.toggle("chosen", each === tile);
  for (const each of find("streams").children) each.setAttribute("aria-pressed", each.dataset.index === String(tiles.indexOf(tile)));
  showChosen();
}

function showChosen() {
  controls.show(chosen.actions);
  controls.update(chosen.present);
  const help = chosen.actions.find((each) => each.name === "help");
  if (help?.key) find("help-button").querySelector("kbd").textContent = keyText(help.key);
  fill(find("figures"), figuresOf(chosen));
}

/** Show one stream alone, or all side by side where `index` is null. */
function arrange(index) {
  alone = index;
  if (alone !== null) choose(tiles[alone]);
  place();
}

/** Show the stream that is to be alone, or all, and each with an alarm until it is acknowledged. */
function place() {
  tiles.forEach((tile, at) => (tile.root.hidden = alone !== null && at !== alone && !tile.alarm));
  if (chosen?.root.hidden) choose(tiles[alone]);
  find("stages").dataset.count = tiles.filter((tile) => !tile.root.hidden).length + (replaying ? 1 : 0);
}

function startReplay(name) {
  closeReplay();
  replaying = new Tile(`/sessions/${encodeURIComponent(name)}/replay`, page, { session: name });
  const tile = replaying;
  tile.buttons = replayButtons((action, values) => tile.call(action, values), closeReplay);
  tile.root.append(tile.buttons.root);
  arrange(tiles.length > 1 ? null : 0);
  if (!pointed) tile.buttons.root.querySelector("button").focus();
}

function closeReplay() {
  const tile = replaying;
  replaying = null;
  tile?.close();
  if (tile) arrange(tiles.length > 1 ? null : 0);
}

function showPane(name) {
  for (const tab of find("tabs").children) {
    const here = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", here);
    tab.tabIndex = here ? 0 : -1;
    find(tab.getAttribute("aria-controls")).hidden = !here;
  }
  if (name === "sessions") sessions.load();
}

find("tabs").onclick = (event) => event.target.role === "tab" && showPane(event.target.getAttribute("aria-controls"));
find("tabs").onkeydown = (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const tabs = [...find("tabs").children];
  const next = tabs[(tabs.indexOf(event.target) + step + tabs.length) % tabs.length];
  showPane(next.getAttribute("aria-controls"));
  next.focus();
  event.preventDefault();
  event.stopPropagation();
};

/** Whether what has the focus needs `key` for itself. */
function isOwn(key, here) {
  if (here.closest("input:not([type=checkbox], [type=range]), textarea")) return true;
  if (key === " " || key === "Enter") return Boolean(here.closest(`${PRESSED}, select`));
  return /^(Arrow|Page|Home$|End$)/.test(key) && Boolean(here.closest("select, [type=range]"));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || document.querySelector("dialog:modal")) return;
  const here = event.target;
  if (event.key === "Escape" && here.closest("input, select, textarea")) return void here.blur(); // so that keys are actions again
  if (event.key === "Escape" && find("help").open) return void find("help").close();
  if (event.key === "Tab" || isOwn(event.key, here)) return; // Tab moves the focus, whatever else it may stand for
  const named = event.key.length > 1 ? event.key.toLowerCase().replace("arrow", "") : event.key;
  const key = KEYS[event.key] ?? named;
  const action = [key, key.toLowerCase()].map((each) => chosen?.actions.find((one) => one.key === each)).find(Boolean);
  if (!action && key !== "?") return;
  event.preventDefault();
  if (event.repeat && !action?.repeats) return; // a key that is held must not answer its own question
  if (!action) toggleHelp();
  else if (action.arguments.some((each) => each.required)) find(`do-${action.name}`)?.focus();
  else act(action, controls.ticked(action));
});

let pointed = false; // whether a pointer did what was done last
document.addEventListener("pointerdown", () => (pointed = true), true);
document.addEventListener("keydown", () => (pointed = false), true);
document.addEventListener("change", ({ target }) => pointed && target.matches("select") && target.blur()); // so that space is an action again
for (const kind of ["pointerup", "click"]) {
  document.addEventListener(kind, () => pointed && document.activeElement.matches(PRESSED) && document.activeElement.blur(), true); // of a touch the focus comes between the two
}

find("help-button").onclick = toggleHelp;
find("quality").onchange = (event) => {
  for (const tile of [...tiles, replaying].filter(Boolean)) {
    tile.quality = Number(event.target.value);
    tile.link.send({ quality: tile.quality });
  }
};

async function begin() {
  const told = await fetch("/streams").then((answer) => answer.json()).catch(() => null);
  if (told === null) return void setTimeout(begin, 500);
  listed = told.streams;
  tiles = listed.map((_, index) => new Tile(`/streams/${index}`, page));
  const streams = find("streams");
  const buttons = told.streams.map((title, index) => Object.assign(document.createElement("button"), { type: "button", textContent: title, onclick: () => arrange(index) }));
  buttons.forEach((button, index) => (button.dataset.index = index));
  const all = Object.assign(document.createElement("button"), { type: "button", textContent: "side by side", onclick: () => arrange(null) });
  streams.append(...buttons, all);
  streams.hidden = buttons.length < 2;
  find("tab-sessions").hidden = !told.sessions;
  const names = { 0: "lossless (PNG)" };
  for (const quality of [0, 97, 90, 75, 50]) {
    find("quality").append(new Option(names[quality] ?? `JPEG, quality ${quality}`, quality, quality === 90, quality === 90));
  }
  choose(tiles[0]);
  arrange(tiles.length > 1 ? null : 0);
  setInterval(() => {
    for (const tile of [...tiles, replaying].filter(Boolean)) tile.tick();
    place();
    if (find("sure").open) tellAlarms();
    if (chosen) plots.draw(chosen.points);
  }, TICK_MS);
}

begin();
