// Pooling, and the vector.

import { arrays } from "./api.js";
import { figureOf, h, p, section } from "./dom.js";
import { dot, format } from "./numbers.js";
import { heatmap } from "./pictures.js";
import { question, state } from "./state.js";
import { afterLayers, operation, stateStages } from "./stages.js";
import { whichText } from "./texts.js";
import { names } from "./tokens.js";

const SAYS = {
  mean: "the mean over all tokens, in which every token counts the same",
  cls: "the vector of the first token, [CLS], which has looked at all others",
  max: "of each component the largest among all tokens",
};

const NAMES = { pooler: "Pooler: the checkpoint has it, this vector does not use it", pooling: "Pooling", normalize: "Normalize: length 1" };

export async function vector(model, seen) {
  const last = stateStages(seen, model).at(-1);
  const count = Math.min(seen.tokens.length, 24);
  const asked = question(state.which);
  const pooling = seen.stages.findIndex(({ operation }) => operation === "pooling");
  const [states, pooled, out] = await arrays(asked, [
    { stage: last, array: "output", slice: [0, [0, count, 1]] },
    { stage: pooling, array: "output", slice: [0] },
    { array: "output" },
  ]);
  const length = Math.sqrt(dot(pooled.data, pooled.data));
  const modes = model.pooling.map((mode) => SAYS[mode] ?? mode).join(", beside it ");
  return [
    h("h2", {}, "Tokens → one vector for the text"), whichText(model),
    p(`After the last layer every token has ${model.hidden_size} numbers. From these rows one row is made for the whole text: ${modes}.`),
    heatmap("Tokens after the last layer", { data: states.data, columns: states.shape.at(-1), rowNames: names(seen.tokens).slice(0, count) }),
    heatmap("Pooled", { data: pooled.data, columns: pooled.data.length, rowNames: ["pooled"], height: 24 }),
    p(`Its length as a vector is ${format(length)}. Only the direction matters when texts are compared, so all numbers are divided by this length. The new length is ${format(Math.sqrt(dot(out.data, out.data)), 3)}.`),
    section("The vector", figureOf(`${out.data.length} numbers`, "that say where this text lies among all texts. A vector database stores them."),
      heatmap("Vector", { data: out.data, columns: out.data.length, rowNames: ["vector"], height: 36 })),
    section("All numbers", ...(await Promise.all(afterLayers(seen).map((i) => operation(model, seen, i, NAMES[seen.stages[i].name]))))),
  ];
}
