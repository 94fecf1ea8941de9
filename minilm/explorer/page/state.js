// What is on screen, in one place. It is kept in the address, so that a link shows the same again.

// Examples. The cosine of texts that ``says`` something is put beside that of the example named by ``beside``.
export const PRESETS = [
  {
    label: "Two banks",
    text: "The bank of the river was muddy",
    second: "The bank lends money to small firms",
    view: "story",
  },
  {
    label: "Same meaning, other words",
    name: "paraphrase",
    says: "say the same",
    beside: "negation",
    text: "How do I get a refund?",
    second: "I want my money back",
    view: "compare",
  },
  {
    label: "The order of words",
    name: "order",
    says: "tell of two different events",
    beside: "paraphrase",
    text: "The dog bites the man",
    second: "The man bites the dog",
    view: "compare",
  },
  {
    label: "A “not” more",
    name: "negation",
    says: "say the opposite of each other",
    beside: "paraphrase",
    text: "The flight is on time",
    second: "The flight is not on time",
    view: "compare",
  },
  {
    label: "A word in pieces",
    text: "Crème brûlée is unbelievably good 😀",
    second: "",
    view: "tokens",
  },
];

// The six sentences in which the story follows its word; the first two are the texts of the first preset.
const SENTENCES = [
  "The bank along the stream is green",
  "The bank beside the lake was steep",
  "The bank gave me a loan",
  "The bank raised its interest rates",
];

const NEIGHBOURS = [
  "A boat lay on the shore of the stream",
  "Mud and water after the flood",
  "She opened a savings account",
  "Loans for companies are cheap this year",
  "The cat sleeps all day",
  "Interest rates went up again",
];

const DEFAULTS = {
  model: "",
  text: PRESETS[0].text,
  second: PRESETS[0].second,
  view: "story", // story, tokens, embeddings, layer.N, pooling, vector, compare, nearest, change, answer
  which: "a", // the text that the stages show
  part: "attention", // of a layer: attention, norm1, feed, norm2
  head: 0,
  token: 2, // whose attention is looked at
  key: -1, // the token of which its score is written out; -1: where it looks most
  open: -1, // the operation whose numbers are open
  array: "output",
  row: 0, // the first row of that picture
  off: "", // tokens that are switched off, in the first and the second text
  off2: "",
  padding: 0,
  change: "",
  cl: 0, // the layer and the head that are changed
  ch: 0,
  depth: 0, // the layer that the story's map shows
  list: SENTENCES.join("\n"),
  near: NEIGHBOURS.join("\n"),
};

export const state = { ...DEFAULTS };
const listeners = new Set();

function read() {
  Object.assign(state, DEFAULTS);
  for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
    if (!(name in DEFAULTS)) continue;
    const number = typeof DEFAULTS[name] === "number";
    if (!number) state[name] = value;
    else if (/^-?\d{1,6}$/.test(value)) state[name] = Number(value);
  }
}

function address() {
  const found = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (value !== DEFAULTS[name]) found.set(name, value);
  }
  return String(found);
}

export function subscribe(listener) {
  listeners.add(listener);
}

/** Set some of the state, and show it. */
export function update(changes) {
  const before = state.view;
  Object.assign(state, changes);
  const hash = "#" + address();
  if (hash !== location.hash) {
    history[before === state.view ? "replaceState" : "pushState"](null, "", hash);
  }
  for (const listener of listeners) listener();
}

/** Texts change: what was chosen in the old ones is chosen no more. */
export function updateTexts(changes) {
  update({ off: "", off2: "", key: -1, token: 2, open: -1, row: 0, ...changes });
}

window.addEventListener("popstate", () => {
  read();
  for (const listener of listeners) listener();
});
read();

// ---- what the server is asked ----

const places = (text) => (text ? text.split(",").map(Number).filter(Number.isInteger) : []);

function changed() {
  return state.change ? { change: state.change, layer: state.cl, head: state.ch } : {};
}

/** The question about the first text, or with "b" about the second one. */
export function question(which = state.which, pair = false) {
  if (pair) {
    const second = state.second ? { second: state.second } : {};
    return { text: state.text, ...second, off: places(state.off), padding: state.padding, ...changed() };
  }
  if (which === "b" && state.second) {
    return { text: state.second, off: places(state.off2), padding: state.padding, ...changed() };
  }
  return { text: state.text, off: places(state.off), padding: state.padding, ...changed() };
}

/** Switch a token on or off. */
export function toggle(which, place) {
  const name = which === "b" ? "off2" : "off";
  const now = new Set(places(state[name]));
  if (!now.delete(place)) now.add(place);
  update({ [name]: [...now].sort((a, b) => a - b).join(",") });
}
