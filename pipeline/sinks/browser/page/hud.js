// What is said over and beside an image: above all, whether it is live.

const OLD_PERIODS = 3;
const OLD_MS = 1000; // at least, so that a slow network alone makes no image old

/** Milliseconds, from one second on seconds, from two minutes on minutes. */
export function ageText(ms) {
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 10_000) return `${(ms / 1000).toFixed(1)} s`;
  return ms < 120_000 ? `${Math.round(ms / 1000)} s` : `${Math.floor(ms / 60_000)} min`;
}

export function clock(seconds) {
  const whole = Math.floor(seconds);
  return `${String(Math.floor(whole / 60)).padStart(2, "0")}:${String(whole % 60).padStart(2, "0")}`;
}

/** Milliseconds since the image on show was captured, with its way here; null where there is none, or where that tells
 *  nothing. By the calendar where that says more: the other clock stands still while the computer sleeps. */
export function ageOf(stream, now = performance.now()) {
  const { captured_ms: captured = null, captured_at: at } = stream.header ?? {};
  return captured === null ? null : Math.max(now - captured, Date.now() - at);
}

/**
 * How the image on show is to be taken: `word`, `detail`, `kind` (live, frozen, warning, dead), whether it is `stale`,
 * so that it is greyed under its age in large figures.
 */
export function stateOf(stream) {
  const { status, view, header } = stream;
  const age = ageOf(stream);
  const dead = (word, detail) => ({ kind: "dead", word, detail, stale: true });
  if (stream.replay) return { kind: "replay", word: "REPLAY", detail: stream.replay.session, stale: false };
  if (!stream.open && stream.refused) return dead("NO ACCESS", "the run was started anew: open the address that it tells");
  if (stream.ended) return dead("ENDED", "the run has ended; the next one is shown when it begins");
  if (!stream.open) return dead("NO CONNECTION", stream.known ? "trying again" : "connecting");
  if (status?.state === "failed") return dead("FAILED", status.message || "the run has failed");
  if (!status || !header) {
    const opening = !status ? "clesr is being opened" : status.message || status.switching || "no image yet";
    return { kind: status?.stalled ? "dead" : "wait", word: status?.stalled ? "NO SIGNAL" : "WAITING", detail: opening };
  }
  if (view?.frozen) {
    const signal = status.stalled ? "and the source gives no images" : `image ${header.number}`;
    const detail = [header.outcome === "failed" ? "BICUBIC ONLY" : "", header.damaged ? "DAMAGED" : "", signal];
    return { kind: "frozen", word: "FROZEN", detail: detail.filter(Boolean).join(", "), aged: true };
  }
  if (status.stalled) return dead("NO SIGNAL", "the source gives no images");
  if (age > Math.max(OLD_MS, OLD_PERIODS * ((status.period_ns ?? 0) / 1e6))) return dead("OLD IMAGE", "it comes late");
  const warn = (word, detail) => ({ kind: "warning", word, detail });
  if (header.outcome === "failed") return warn("BICUBIC ONLY", header.reason || "the engine failed on this frame");
  if (header.damaged) return warn("DAMAGED", "parts may be wrong");
  if (status.state === "degraded") return warn("DEGRADED", status.message || "the engine failed");
  return { kind: "live", word: "LIVE", detail: "" };
}

const number = (value, digits, unit) => (value === null || value === undefined ? "–" : `${value.toFixed(digits)} ${unit}`);

/** Whether what was told of a stream holds now: not after a cut, nor after the end of its run. */
const told = (stream) => stream.open && !stream.ended;

/** What of the picture on show is not as it is by itself: `[label, text, class]`. */
function lookOf({ header, view }) {
  const { mode = "sr", contrast = "as-is", levels, lookup_table: colours = "gray" } = header?.view ?? {};
  const found = [];
  if (mode !== "sr") found.push(["shows", mode, "warn"]);
  if (view?.zoom > 1) found.push(["zoom", `${view.zoom.toFixed(1)}x`, "look"]);
  if (contrast === "fixed") found.push(["contrast", `${levels[0].toFixed(0)} to ${levels[1].toFixed(0)}`, "look"]);
  else if (contrast !== "as-is") found.push(["contrast", contrast, "look"]);
  if (colours !== "gray") found.push(["colours", colours, "look"]);
  return found;
}

const recOf = ({ recording_s: seconds }) => ["", `REC ${seconds == null ? "" : clock(seconds)}`.trim(), "chip rec"];

/** The figures of the bar: `[label, text, class]`. */
export function figuresOf(stream) {
  const { status, header } = stream;
  const state = stateOf(stream);
  const found = [["", state.word, `chip ${state.kind}`]];
  if (!told(stream)) return ageOf(stream) === null ? found : [...found, ["age", ageText(ageOf(stream)), "bad"]];
  if (status?.recording) {
    found.push(recOf(status));
    if (status.disk_minutes != null) {
      const left = status.disk_minutes;
      const words = left < 120 ? `${Math.floor(left)} min` : `${Math.floor(left / 60)} h`;
      found.push(["disk", `${words} left`, left < 3 ? "bad" : left < 10 ? "warn" : ""]);
    }
  }
  if (status) found.push(["", `${status.fps.toFixed(1)} frames/s`, ""]);
  if (ageOf(stream) !== null) found.push(["age", ageText(ageOf(stream)), state.stale ? "bad" : ageOf(stream) > OLD_MS ? "warn" : ""]);
  if (header?.worst_tile) found.push(["", "BELOW LIMIT", "warn"]);
  return [...found, ...lookOf(stream)];
}

/** That a stream is recorded, where there are `others`, or that it is not, where one of them is. */
export function recordingOf(stream, others) {
  if (stream.replay || !others.length || !told(stream) || !stream.status) return [];
  if (stream.status.recording) return [recOf(stream.status)];
  const beside = others.some((each) => told(each) && each.status?.recording);
  return beside ? [["", "NOT RECORDED", "chip warning"]] : [];
}

/** What stands over or beside the image: rows of `[label, text, class]`. */
export function hudOf(stream) {
  const { status, header } = stream;
  if (!status || !told(stream)) return []; // what was true before a cut says nothing now
  const [engine, model] = header?.engine ? [header.engine, header.model] : [status.engine || "no engine yet", status.model];
  const rows = [[["", [engine, engine.includes(model) ? "" : model].filter(Boolean).join(", "), "dim"]]];
  if (header) {
    const below = header.below_limit ? "warn" : "";
    const fidelity = [["fidelity", number(header.fidelity, 1, "dB"), ""]];
    if (header.worst != null) fidelity.push(["worst tile", number(header.worst, 1, "dB"), below]);
    if (header.below_limit) fidelity.push(["", `BELOW LIMIT ${number(header.limit, 1, "dB")}`, "warn"]);
    if (header.frames != null) fidelity.push(["rests on", number(header.frames, 1, "frames"), ""]);
    fidelity.push(["frame", String(header.number), "dim"]);
    rows.push(fidelity);
  }
  const look = lookOf(stream);
  if (look.length) rows.push(look);
  const troubles = ["lost-at-source", "failed", "corrupt"];
  const counts = Object.entries(status.outcomes).filter(([outcome, count]) => count || outcome === "upscaled");
  rows.push([
    ["captured", String(status.captured), ""],
    ...counts.map(([outcome, count]) => [outcome, String(count), troubles.includes(outcome) ? "warn" : ""]),
    ...(status.damaged ? [["damaged", String(status.damaged), "warn"]] : []),
  ]);
  if (status.outages) rows.push([["", status.outages, "warn"]]);
  if (status.switching) rows.push([["switching to", status.switching, "warn"]]);
  if (status.switch_error) rows.push([["switch", status.switch_error, "warn"]]);
  rows.push([["", status.source, "dim"]]);
  return rows;
}

/** Put `[label, text, class]` into `root`, which is touched only where something is new. */
export function fill(root, words, tag = "span") {
  const wanted = JSON.stringify(words);
  if (root.dataset.words === wanted) return;
  root.dataset.words = wanted;
  root.replaceChildren(
    ...words.map(([label, text, kind]) => {
      const element = document.createElement(tag);
      element.className = kind;
      if (label) {
        const named = document.createElement("i");
        named.textContent = `${label} `;
        element.append(named);
      }
      element.append(text);
      return element;
    }),
  );
}
