// The traced operations: which belong to a layer, and how one of them opens with its numbers, formula and source.

import { arrays } from "./api.js";
import { button, h, select } from "./dom.js";
import { many, milliseconds, shape } from "./numbers.js";
import { heatmap, strong } from "./pictures.js";
import { pythonOf } from "./python.js";
import { question, state, update } from "./state.js";
import { names } from "./tokens.js";

const [ROWS, NUMBERS] = [64, 1 << 19]; // of an array that are shown at a time, at most

const rowsAtOnce = (sizes) => Math.max(1, Math.min(ROWS, Math.floor(NUMBERS / sizes.at(-1))));

/** The number of an operation by the end of its name: a model with a head has its encoder under a name of its own. */
export const find = (stages, end) => stages.findIndex(({ name }) => name === end || name.endsWith(`.${end}`));

/** The numbers of the operations of one layer, by what they do there. */
export function layerStages(stages, layer) {
  const at = (end) => find(stages, `encoder.layer.${layer}.${end}`);
  return {
    query: at("attention.self.query"),
    key: at("attention.self.key"),
    value: at("attention.self.value"),
    attention: at("attention.self"),
    norm1: at("attention.output"),
    feed: at("intermediate"),
    norm2: at("output"),
  };
}

/** The operations that give hidden states [tokens, hidden]: the embeddings, then each layer's last. */
export function stateStages({ stages }, model) {
  const first = find(stages, "embeddings.projection");
  const layers = Array.from({ length: model.num_hidden_layers }, (_, n) => layerStages(stages, n).norm2);
  return [first >= 0 ? first : 0, ...layers];
}

/** The operations after the last layer. */
export const afterLayers = ({ stages }) => stages.map((_, i) => i).filter((i) => !/(^|\.)(embeddings|encoder)\b/.test(stages[i].name));

/** What is fetched of an array so that it can be shown as rows and columns, and how it is called. */
function window2d(array, sizes, { tokens }) {
  const rowsFrom = (size) => [state.row, Math.min(state.row + rowsAtOnce(sizes), size), 1];
  if (sizes.length === 4) {
    const head = Math.min(state.head, sizes[1] - 1);
    return { slice: [0, head, rowsFrom(sizes[2])], rows: sizes[2], byToken: sizes[2] === tokens.length, head: sizes[1] > 1 };
  }
  if (sizes.length === 3) return { slice: [0, rowsFrom(sizes[1])], rows: sizes[1], byToken: sizes[1] === tokens.length };
  if (sizes.length === 2 && sizes[0] > 1) return { slice: [rowsFrom(sizes[0])], rows: sizes[0], byToken: false };
  return { slice: [], rows: 1, byToken: false };
}

async function numbers(seen, i) {
  const { shapes } = seen.stages[i];
  const array = state.array in shapes ? state.array : "output";
  const sizes = shapes[array];
  const part = window2d(array, sizes, seen);
  const [found] = await arrays(question(state.which, seen.pair), [{ stage: i, array, slice: part.slice }]);
  const columns = found.shape.at(-1);
  const step = rowsAtOnce(sizes);
  const tokenNames = names(seen.tokens);
  const count = found.data.length / columns;
  const first = part.rows > 1 ? state.row : 0;
  const rowNames = Array.from({ length: count }, (_, r) => (part.byToken ? tokenNames[first + r] : part.rows > 1 ? `row ${first + r}` : array));
  const title = `${seen.stages[i].name} · ${array} ${shape(sizes)}`;
  return h("div", { "data-stage": i, "data-array": array, "data-slice": JSON.stringify(part.slice) },
    h("div", { class: "controls" },
      select("Array", Object.entries(shapes).map(([name, sizes]) => [name, `${name} ${shape(sizes)}`]), array, (array) => update({ array, row: 0 })),
      part.head && select("Head", Array.from({ length: sizes[1] }, (_, n) => [n, String(n + 1)]), state.head, (head) => update({ head: Number(head) })),
      part.rows > step && h("span", { class: "pages" },
        button("‹", () => update({ row: Math.max(0, state.row - step) }), { "aria-label": "Rows before", disabled: state.row === 0 }),
        ` rows ${state.row} to ${Math.min(state.row + step, part.rows) - 1} of ${part.rows} `,
        button("›", () => update({ row: state.row + step }), { "aria-label": "Rows after", disabled: state.row + step >= part.rows }))),
    heatmap(title, { data: found.data, columns, rowNames, signed: !/probabilities|_ids|attention_mask$/.test(array) || array.startsWith("extended"), most: strong(found.data.filter((x) => Math.abs(x) < 1e30)) }));
}

/** The functions that an operation is written in, as they stand in the package. */
function source(functions) {
  return h("details", { class: "source" }, h("summary", {}, "The code that computes this"),
    functions.map(({ name, source }) => h("figure", {}, h("figcaption", {}, h("code", {}, `minilm.${name}`)),
      h("pre", { tabindex: 0, role: "region", "aria-label": name }, h("code", {}, source)))));
}

/** The formulas of an operation, and of what it is made of. */
function formulas(operation, functions) {
  const most = ["linear_activation", "linear_add_layer_norm"].includes(operation) ? 2 : 1;
  return functions.slice(0, most).map(({ formula }) => formula).filter(Boolean);
}

/** An operation in one line; it opens to its numbers. ``seen`` is what `run` answered. */
export async function operation(model, seen, i, says = "") {
  if (i < 0) return null;
  const stage = seen.stages[i];
  const functions = model.functions[stage.operation];
  const open = state.open === i;
  const { output } = stage.shapes;
  const work = stage.flops ? ` · ${many(stage.flops)} multiplications and additions` : "";
  const head = button(h("span", {}, h("strong", {}, says || stage.name), " ", h("span", { class: "quiet" }, h("code", {}, stage.operation), ` → ${shape(output)} · ${milliseconds(stage.seconds)}${work}`)),
    () => update({ open: open ? -1 : i, row: 0, array: "output" }), { class: "opener", "aria-expanded": String(open), "data-focus": `operation ${i}` });
  if (!open) return h("div", { class: "operation" }, head);
  return h("div", { class: "operation open" }, head,
    h("p", {}, formulas(stage.operation, functions).map((text) => [h("code", { class: "formula" }, text), " "]), h("span", { class: "quiet" }, stage.name)),
    await numbers(seen, i),
    source(functions),
    h("details", {}, h("summary", {}, "The same number in Python"), h("pre", { tabindex: 0 }, h("code", {}, pythonOf(model, i)))));
}
