// A layer: the tokens look at each other, then each is worked on alone.

import { arrays } from "./api.js";
import { choice, h, p } from "./dom.js";
import { attention } from "./view_attention.js";
import { heatmap } from "./pictures.js";
import { question, state, update } from "./state.js";
import { layerStages, operation } from "./stages.js";
import { whichText } from "./texts.js";
import { names } from "./tokens.js";

const PARTS = [["attention", "1 Self-attention"], ["norm1", "2 Add & norm"], ["feed", "3 Feed-forward"], ["norm2", "4 Add & norm"]];

async function picture(seen, stage, array, title) {
  const count = Math.min(seen.tokens.length, 24);
  const [found] = await arrays(question(state.which, seen.pair), [{ stage, array, slice: [0, [0, count, 1]] }]);
  return heatmap(title, { data: found.data, columns: found.shape.at(-1), rowNames: names(seen.tokens).slice(0, count) });
}

async function addAndNorm(model, seen, stage, before) {
  return [
    p(`The result of ${before} is turned into ${model.hidden_size} numbers, and these are added to what the token was before: nothing is replaced. Then each row is normalized again.`),
    await picture(seen, stage, "residual", "What the token was"),
    await picture(seen, stage, "output", "What it is now"),
    await operation(model, seen, stage, "Dense, add, LayerNorm: all numbers"),
  ];
}

async function feedForward(model, seen, stage) {
  const [found] = await arrays(question(state.which, seen.pair), [{ stage, array: "output", slice: [0, [0, Math.min(seen.tokens.length, 24), 1]] }]);
  const on = found.data.reduce((count, x) => count + (x > 0), 0) / found.data.length;
  return [
    p(`Here every token is alone. Its ${model.hidden_size} numbers become ${model.intermediate_size}, and ${model.activation.toUpperCase()} keeps mainly what is positive: here ${Math.round(100 * on)} % of them. You can read each of these numbers as a small detector: it is large where its pattern is found.`),
    await picture(seen, stage, "output", "After the activation"),
    await operation(model, seen, stage, "Dense, activation: all numbers"),
  ];
}

export async function layer(model, seen, number) {
  const at = layerStages(seen.stages, number);
  const parts = {
    attention: () => attention(model, seen, at, number),
    norm1: () => addAndNorm(model, seen, at.norm1, "attention"),
    feed: () => feedForward(model, seen, at.feed),
    norm2: () => addAndNorm(model, seen, at.norm2, "the feed-forward part"),
  };
  const part = state.part in parts ? state.part : "attention";
  return [
    h("h2", {}, `Layer ${number + 1} of ${model.num_hidden_layers}`), whichText(model),
    choice("Part of the layer", PARTS, part, (part) => update({ part, open: -1, row: 0 })),
    await parts[part](),
  ];
}
