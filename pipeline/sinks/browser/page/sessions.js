// Recorded sessions: their list, certificates, downloads and replays.

const path = (name, ...more) => `/sessions/${[name, ...more].map(encodeURIComponent).join("/")}`;

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function bytesText(bytes) {
  const units = ["bytes", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  return `${(bytes / 1000 ** power).toFixed(power ? 1 : 0)} ${units[power]}`;
}

async function asked(address) {
  try {
    const answer = await fetch(address);
    const value = await answer.json();
    return Array.isArray(value) || answer.ok ? value : { error: value.error ?? `${answer.status}` };
  } catch {
    return { error: "the server does not answer" };
  }
}

export class Sessions {
  /** `replay(name)` begins one. */
  constructor(root, replay) {
    this.root = root;
    this.replay = replay;
    this.list = element("div");
    const again = element("button", { type: "button", textContent: "Look again" });
    again.onclick = () => this.load();
    root.append(element("div", { className: "row" }, element("h2", { textContent: "Recorded sessions" }), again), this.list);
  }

  async load() {
    const sessions = await asked("/sessions");
    if (sessions.error) {
      this.list.replaceChildren(element("p", { className: "bad", textContent: sessions.error }));
    } else if (!sessions.length) {
      this.list.replaceChildren(element("p", { className: "note", textContent: "There are none in this folder." }));
    } else {
      this.list.replaceChildren(...sessions.map((session) => this.card(session)));
    }
  }

  card(session) {
    const { name } = session;
    if (session.error) {
      const words = element("p", { className: "bad", textContent: session.error });
      return element("article", { className: "session" }, element("h3", { textContent: name }), words);
    }
    const begun = new Date(session.started);
    const facts = [
      Number.isNaN(begun.getTime()) ? session.started : begun.toLocaleString(),
      session.totals ? `${session.totals.captured ?? 0} frames` : "",
      `x${session.scale} ${session.model}`,
      bytesText(session.bytes),
    ];
    const result = element("div", { className: "certificate" });
    result.setAttribute("role", "status");
    const replay = element("button", { type: "button", textContent: "Replay" });
    replay.onclick = () => this.replay(name);
    const certify = element("button", { type: "button", textContent: "Certificate" });
    certify.onclick = () => this.certify(name, certify, result);
    const zip = element("a", { href: path(name, "zip"), textContent: "Download", download: "" });
    for (const each of [replay, certify, zip]) each.setAttribute("aria-label", `${each.textContent} ${name}`);
    const files = Object.entries(session.files).map(([file, bytes]) =>
      element("li", {}, element("a", { href: path(name, "files", file), textContent: file, download: "" }), ` ${bytesText(bytes)}`),
    );
    return element(
      "article",
      { className: "session" },
      element("h3", { textContent: name }),
      element("p", { className: "dim", textContent: facts.filter(Boolean).join(" · ") }),
      ...(session.closed ? [] : [element("p", { className: "warn", textContent: "Not closed: still recorded, or cut off." })]),
      element("div", { className: "buttons" }, replay, certify, zip),
      result,
      element("details", {}, element("summary", { textContent: `${files.length} files` }), element("ul", {}, ...files)),
    );
  }

  async certify(name, button, result) {
    button.disabled = true;
    result.replaceChildren(element("p", { className: "dim", textContent: "Checking every frame: this takes a while." }));
    const found = await asked(path(name, "certificate"));
    button.disabled = false;
    if (found.error) {
      result.replaceChildren(element("p", { className: "bad", textContent: found.error }));
      return;
    }
    const [kind, word] = !found.holds ? ["bad", "DOES NOT HOLD"] : found.complete ? ["good", "COMPLETE"] : ["warn", "HOLDS, WITH GAPS"];
    const totals = Object.entries(found.totals).map(([what, count]) => `${count} ${what}`).join(", ");
    const missing = found.missing.slice(0, 20).map((gap) => `${gap.what} ${gap.first} to ${gap.last}: ${gap.reason}`);
    result.replaceChildren(
      element("p", { className: `verdict ${kind}`, textContent: word }),
      element("p", { textContent: totals }),
      ...[...found.problems, ...missing].map((text) => element("p", { className: "warn", textContent: text })),
      element("p", { className: "dim digest", textContent: `digest ${found.digest}` }),
    );
  }
}

/** The buttons of a replay; `call` asks its server, `close` ends it. */
export function replayButtons(call, close) {
  const pause = element("button", { type: "button", textContent: "Pause" });
  pause.onclick = () => call("pause");
  const again = element("button", { type: "button", textContent: "From the start" });
  again.onclick = () => call("restart");
  const which = element("select", { ariaLabel: "Images of the replay" }, new Option("up-scaled", "sr"), new Option("raw", "raw"));
  which.onchange = () => call("images", { which: which.value });
  const end = element("button", { type: "button", textContent: "Close the replay" });
  end.onclick = close;
  const told = element("span", { className: "dim" });
  told.setAttribute("role", "status");
  const root = element("div", { className: "replay" }, pause, again, which, end, told);
  const update = (state) => {
    pause.textContent = state.paused ? "Go on" : "Pause";
    pause.disabled = Boolean(state.over);
    which.value = state.which;
    told.textContent = state.error ?? (state.over ? "at its end" : "");
  };
  return { root, update };
}
