// The texts, and examples of texts.

import { button, choice, fill, h } from "./dom.js";
import { PRESETS, state, update, updateTexts } from "./state.js";

const WAIT = 180; // milliseconds after a key before the texts are read
let waiting = 0;
let drawnFor = "";

function field(name, label, hint) {
  const commit = (event) => {
    clearTimeout(waiting);
    waiting = 0;
    if (event.target.value !== state[name]) updateTexts({ [name]: event.target.value });
  };
  return h("label", { class: "field" }, h("span", {}, label),
    h("input", {
      type: "text", dir: "auto", value: state[name], placeholder: hint, spellcheck: "false", autocomplete: "off", maxlength: 100000, "data-focus": label, id: `text-${name}`,
      onchange: commit,
      onkeydown: (event) => {
        if (event.key === "Enter") {
          event.preventDefault();
          commit(event);
        }
      },
      oninput: (event) => {
        clearTimeout(waiting);
        waiting = setTimeout(() => commit(event), WAIT);
      },
    }));
}

export function drawTexts(root, model) {
  const isVector = model.kind === "vector";
  const readsTwo = isVector || model.kind === "labels";
  if (drawnFor === model.kind) { // the fields stay, for they are being typed in
    for (const name of ["text", "second"]) {
      const one = root.querySelector(`#text-${name}`);
      if (one && (document.activeElement !== one || waiting === 0)) one.value = state[name];
    }
  } else {
    drawnFor = model.kind;
    root.onsubmit = (event) => event.preventDefault();
    fill(root,
      h("div", { class: "fields" }, field("text", readsTwo ? "First text" : "Text", "Type a sentence"),
        readsTwo && field("second", "Second text", isVector ? "and another, to compare" : "and another, if the model reads pairs")),
      h("div", { class: "presets" }, h("span", { class: "quiet" }, "Examples"),
        PRESETS.filter(({ view }) => isVector || view === "tokens").map(({ label, text, second, view }) => button(label, () => updateTexts({ text, second, view, which: "a", change: "" }))),
        model.mask_token && button("A covered word", () => updateTexts({ text: `The capital of France is ${model.mask_token}.`, second: "", view: "answer" }))));
  }
}

/** Which of two texts the stages show. */
export function whichText(model) {
  if (!state.second || model.kind !== "vector") return null;
  return choice("Text", [["a", "First text"], ["b", "Second text"]], state.which, (which) => update({ which, key: -1, row: 0 }));
}
