// Many texts: a ranking, and a map.

import { nearest } from "./api.js";
import { h, p, section } from "./dom.js";
import { percent } from "./numbers.js";
import { bars } from "./pictures.js";
import { plane } from "./plane.js";
import { lines } from "./python.js";
import { state, update } from "./state.js";

/** A list that people write, one text a line; what is on screen follows when they leave it. */
export function list(name, label) {
  return h("label", { class: "field" }, h("span", {}, label),
    h("textarea", { rows: 6, dir: "auto", value: state[name], "data-focus": label, onchange: (event) => update({ [name]: event.target.value }) }));
}

export async function neighbours(model, seen) {
  const sentences = lines(state.near).slice(0, 200);
  const found = sentences.length ? await nearest(state.text, sentences) : { cosines: [], places: [[0, 0]], kept: 1 };
  const order = sentences.map((_, i) => i).sort((a, b) => found.cosines[b] - found.cosines[a]);
  return [
    h("h2", {}, "Which of many texts is nearest?"),
    p("This is search by meaning: every text becomes a vector, and the nearest ones are the answers. Write your own texts, one per line."),
    list("near", "Texts to compare with the first text"),
    section("The nearest first", bars("nearest", order.map((i) => [sentences[i], found.cosines[i]]), { most: 1 })),
    section("A map", p(`A vector has ${model.hidden_size} dimensions, a map has two: here the two directions in which these texts differ most (PCA). They hold ${percent(found.kept)} of all differences. The round point is the first text.`),
      plane("A map of the texts", found.places, [state.text || "(empty)", ...sentences], [0, ...sentences.map(() => 1)])),
  ];
}
