// Buttons, sliders and fields for every action that the stream knows, by group.

const FIELDS = { fidelity: "overlay", freeze: "frozen" }; // what of the view an action changes, where named otherwise

const WIDEST = 1000; // range of a slider; what may be more is typed
// Arguments that the page knows by itself, of what was seen.
const MEANT = { acknowledge: ["alarm"], freeze: ["number"], note: ["number"], quit: ["sure"], record: ["to"], still: ["number"] };
const RANGES = { wipe: [0, 1], zoom: [1, 16] }; // what the view may be, where an argument may also be less: "the next"

/** The arguments of `action` for which the page has fields. */
export const asked = (action) => action.arguments.filter(({ name }) => !MEANT[action.name]?.includes(name));

/** Whether `action` takes the argument `name`, and the page fills it. */
export const meant = (action, name) => action?.arguments.some((each) => each.name === name) && MEANT[action.name]?.includes(name);

export const spoken = (name) => name[0].toUpperCase() + name.slice(1).replaceAll("-", " ");
export const keyText = (key) => (key.length === 1 ? key : key[0].toUpperCase() + key.slice(1));

export function byGroup(actions) {
  const groups = new Map();
  for (const action of actions) groups.set(action.group, [...(groups.get(action.group) ?? []), action]);
  return groups;
}

/** Of `told`, the present values by the names of what is changed, those of an action's arguments. */
function present(action, told) {
  const value = told?.[FIELDS[action.name] ?? action.name.replaceAll("-", "_")];
  if (value === undefined || value === null) return [];
  return Array.isArray(value) ? value : [value];
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Nothing in `row` can be used where the run lacks what is `missing`. */
function cannot(row, missing) {
  if (!missing) return;
  for (const each of [row, ...row.querySelectorAll("button, input, select")]) {
    each.disabled = true;
    each.title = missing;
  }
}

/** Why actions cannot be used, for those who touch them: they see no title. */
function reasons(actions) {
  const missing = new Map();
  for (const action of actions) if (action.missing) missing.set(action.missing, [...(missing.get(action.missing) ?? []), spoken(action.name)]);
  return [...missing].map(([words, names]) => element("p", { className: "why", textContent: `${names.join(", ")}: ${words}` }));
}

export class Controls {
  /** `act(action, values)` does an action with `{argument: value}`. */
  constructor(root, act) {
    this.root = root;
    this.act = act;
    this.shown = "";
    this.updates = [];
  }

  show(actions) {
    const described = JSON.stringify(actions);
    if (described === this.shown) return;
    this.shown = described;
    this.updates = [];
    const groups = [...byGroup(actions)].map(([group, members]) => {
      const rows = members.map((action) => this.row(action));
      const narrow = rows.filter((row) => row.tagName === "BUTTON"); // first, two in a row
      const wide = rows.filter((row) => row.tagName !== "BUTTON");
      rows.forEach((row, index) => cannot(row, members[index].missing));
      return element("section", {}, element("h2", { textContent: group }), ...narrow, ...wide, ...reasons(members));
    });
    if (!groups.length) groups.push(element("p", { className: "note", textContent: "The stream is being opened." }));
    this.root.replaceChildren(...groups);
  }

  /** What is ticked for `action`, which counts for its key, too: what is typed does not. */
  ticked(action) {
    const boxes = asked(action).filter(({ kind }) => kind === "bool");
    const given = boxes.map((argument) => [argument.name, valueOf(argument, this.root.querySelector(`#do-${action.name}-${argument.name}`))]);
    return Object.fromEntries(given.filter(([, value]) => value !== undefined));
  }

  /** `told` has the present values of what actions change, by their names. */
  update(told) {
    for (const update of this.updates) update(told);
  }

  row(action) {
    const [only, ...more] = asked(action);
    if (!only) return this.button(action);
    if (!more.length && only.choices.length) return this.select(action, only);
    const bounded = only.minimum !== null && only.maximum !== null && only.maximum - only.minimum <= WIDEST;
    if (!more.length && only.kind !== "str" && bounded) return this.slider(action, only);
    return this.form(action);
  }

  /** A label in front of `field`; a button where the action can do without a value. */
  labelled(action, field, ...more) {
    const id = `do-${action.name}`;
    field.title = action.help;
    if (!asked(action)[0].required) {
      field.ariaLabel = spoken(action.name);
      field.id = `${id}-value`;
      return element("div", { className: "row" }, this.button(action), field, ...more);
    }
    field.id = id;
    const label = element("label", { htmlFor: id, textContent: spoken(action.name) }, ...this.key(action));
    return element("div", { className: "row" }, label, field, ...more);
  }

  key(action) {
    return action.key ? [" ", element("kbd", { textContent: keyText(action.key) })] : [];
  }

  button(action) {
    const made = element("button", { type: "button", title: action.help, id: `do-${action.name}` });
    made.append(spoken(action.name), ...this.key(action));
    made.onclick = () => this.act(action, {});
    this.updates.push((told) => {
      const [value] = present(action, told);
      if (typeof value === "boolean") made.setAttribute("aria-pressed", value);
    });
    return made;
  }

  select(action, argument) {
    const made = element("select");
    const given = argument.required ? argument.choices : argument.choices.filter((value) => value !== argument.default); // which is for "the next", as the button is
    made.append(...given.map((value) => new Option(String(value), String(value))));
    made.selectedIndex = -1; // what it is now is not known yet
    let waiting = 0;
    made.onchange = async () => {
      waiting += 1;
      await this.act(action, { [argument.name]: given[made.selectedIndex] });
      waiting -= 1;
    };
    this.updates.push((told) => {
      const [value] = present(action, told);
      if (!waiting && value !== undefined && made.value !== String(value)) made.value = String(value);
    });
    return this.labelled(action, made);
  }

  slider(action, argument) {
    const [min, max] = RANGES[action.name] ?? [argument.minimum, argument.maximum];
    const step = argument.kind === "int" ? 1 : (max - min) / 200;
    const made = element("input", { type: "range", min, max, step });
    const output = element("output");
    const tell = () => (output.textContent = String(Math.round(made.value * 100) / 100));
    made.oninput = () => {
      tell();
      this.act(action, { [argument.name]: Number(made.value) });
    };
    this.updates.push((told) => {
      const [value] = present(action, told);
      if (value !== undefined && document.activeElement !== made) made.value = value;
      tell();
    });
    return this.labelled(action, made, output);
  }

  /** Fields for the arguments of an action; they are folded away where it can do without, unless it is one text that is
   *  never empty. */
  form(action) {
    const given = asked(action);
    const single = given.length === 1 && given[0].kind === "str" && given[0].default !== "";
    const fields = given.map((argument) => [argument, this.field(action, argument)]);
    const submit = element("button", { title: action.help, id: `do-${action.name}` });
    submit.append(spoken(action.name), ...this.key(action));
    const inputs = element("div", { className: "fields" });
    for (const [argument, field] of fields) {
      inputs.append(element("label", { htmlFor: field.id, textContent: spoken(argument.name), title: argument.help }), field);
    }
    const optional = !single && given.every((argument) => !argument.required);
    const more = element("details", {}, element("summary", { textContent: `${spoken(action.name)}: options` }), inputs);
    const form = element("form", { className: optional ? "optional" : "" }, submit, optional ? more : inputs);
    form.onsubmit = (event) => {
      event.preventDefault();
      const given = fields.map(([argument, field]) => [argument.name, valueOf(argument, field)]);
      this.act(action, Object.fromEntries(given.filter(([, value]) => value !== undefined)));
    };
    let before = "";
    this.updates.push((told) => {
      const values = present(action, told);
      const words = JSON.stringify(values);
      if (words === before || form.contains(document.activeElement)) return; // what was typed stays
      before = words;
      fields.forEach(([argument, field], index) => {
        const value = values[index];
        if (value === undefined || argument.kind === "bool") return;
        field.value = String(value);
      });
    });
    return form;
  }

  field(action, argument) {
    const id = `do-${action.name}-${argument.name}`;
    if (argument.kind === "bool") {
      return element("input", { type: "checkbox", id, checked: argument.default === true });
    }
    if (argument.choices.length) {
      const made = element("select", { id });
      const choices = argument.choices.filter((value) => value !== "");
      if (!argument.required) made.append(new Option("–", ""));
      made.append(...choices.map((value) => new Option(String(value), String(value))));
      return made;
    }
    const made = element("input", { id, required: argument.required, autocomplete: "off" });
    if (argument.kind === "str") {
      if (argument.maximum !== null) made.maxLength = argument.maximum;
      return made;
    }
    made.type = "number";
    made.step = argument.kind === "int" ? "1" : "any";
    if (argument.minimum !== null) made.min = argument.minimum;
    if (argument.maximum !== null) made.max = argument.maximum;
    if (typeof argument.default === "number") made.placeholder = String(argument.default);
    return made;
  }
}

/** What a field says; undefined where it was left empty, for the default. */
function valueOf(argument, field) {
  if (argument.kind === "bool") return field.checked === (argument.default === true) ? undefined : field.checked;
  if (field.value === "") return undefined;
  if (argument.choices.length) return argument.choices.find((value) => String(value) === field.value);
  return argument.kind === "str" ? field.value : Number(field.value);
}

/** The help: every action with its key. */
export function showHelp(root, actions) {
  const groups = [...byGroup(actions)].map(([group, members]) => {
    const list = element("dl");
    for (const action of members) {
      const key = action.key ? [element("kbd", { textContent: keyText(action.key) })] : [];
      list.append(element("dt", {}, ...key), element("dd", {}, element("b", { textContent: spoken(action.name) }), ` ${action.help}`));
    }
    return element("section", {}, element("h3", { textContent: group }), list);
  });
  const pointer = element("section", {}, element("h3", { textContent: "Pointer" }), element("p", {
    textContent:
      "Drag the edge of a wipe. Wheel or two fingers zoom, drag pans, double click shows all. " +
      "Shift and drag marks a region, Shift and a click takes it away; " +
      "on a touch screen a finger that rests first stands for Shift.",
  }));
  root.replaceChildren(...groups, pointer);
}
