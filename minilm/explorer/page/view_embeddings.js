// Tokens → vectors: three rows are added, and normalized.

import { arrays } from "./api.js";
import { h, p } from "./dom.js";
import { heatmap } from "./pictures.js";
import { question, state } from "./state.js";
import { find, operation } from "./stages.js";
import { whichText } from "./texts.js";
import { names } from "./tokens.js";

const PARTS = [
  ["words[input_ids]", "The word’s row", "The same in every text: here a word has one vector, whatever it means."],
  ["positions[position_ids]", "+ the position’s row", "So that the network can tell “dog bites man” from “man bites dog”."],
  ["token_types[token_type_ids]", "+ the row of the token’s type", "First or second text of a pair; for single texts it is the same everywhere."],
  ["output", "= the sum, normalized", "Each row is brought to mean 0 and variance 1, then scaled by learned weights. This goes into the first layer."],
];

export async function embeddings(model, seen) {
  const shapes = seen.stages[0].shapes;
  const count = Math.min(seen.tokens.length, 24);
  const shown = PARTS.filter(([array]) => shapes[array]);
  const found = await arrays(question(state.which, seen.pair), shown.map(([array]) => ({ stage: 0, array, slice: [0, [0, count, 1]] })));
  const rowNames = names(seen.tokens).slice(0, count);
  return [
    h("h2", {}, "Tokens → vectors"), whichText(model),
    p(`Every token begins as ${model.hidden_size} numbers. They come from tables: one row is looked up in each, and the rows are added. Below, each row is a token, and each column is one of its numbers.`),
    count < seen.tokens.length && h("p", { class: "quiet" }, `The first ${count} of ${seen.tokens.length} tokens; below, all of them.`),
    shown.map(([, title, says], i) => h("section", { class: "sum" }, h("h3", {}, title), p(says),
      heatmap(title, { data: found[i].data, columns: found[i].shape.at(-1), rowNames, titled: false }))),
    await operation(model, seen, 0, "The embeddings, all numbers"),
    await operation(model, seen, find(seen.stages, "embeddings.projection"), "The projection to the width of the layers"),
  ];
}
