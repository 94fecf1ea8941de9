// The Python that gives the numbers on screen.

import { question, state } from "./state.js";

const quote = (text) => JSON.stringify(text).replace(/[\u007f-\uffff]/g, (c) => c); // JSON's strings are Python's

const CLASSES = { words: "AutoModelForMaskedLM", token_labels: "AutoModelForTokenClassification" };

function loading(model) {
  const auto = CLASSES[model.kind];
  if (auto) {
    return [`model = minilm.${auto}.from_pretrained(${quote(model.name)})`, `tokenizer = minilm.AutoTokenizer.from_pretrained(${quote(model.name)})`, "network = model"];
  }
  return [`model = minilm.${model.class}(${quote(model.name)})`, "network, tokenizer = model.transformer.model, model.tokenizer"];
}

function changing() {
  if (!state.change) return [];
  return [`from minilm.explorer.changes import ${state.change}`, `model = model.with_operations(${state.change}(${settings()}))`];
}

/** The settings of the change, as its table takes them. */
export const settings = () => ({ NoHead: `layer=${state.cl}, head=${state.ch}`, NoLayer: `layer=${state.cl}` })[state.change] ?? "";

const inputsOf = (model, tokenizer, texts) => `inputs = ${tokenizer}(${texts}, truncation=True, max_length=${model.limit}, return_tensors="np")`;
const without = (off) => (off?.length ? [`inputs["attention_mask"][0, ${JSON.stringify(off)}] = 0  # switched off`] : []);

/** The lines that make a text's vector, without the words that are switched off. */
export function encoding(model, network, { text, off }, vector = "vector") {
  if (!off.length) return [`${vector} = ${network}.encode(${quote(text)})`];
  return [inputsOf(model, `${network}.tokenizer`, quote(model.prompt + text)), ...without(off), `${vector} = ${network}(inputs)["sentence_embedding"][0]`];
}

/** Up to the record of all operations. */
function tracing(model) {
  const asked = question(state.which, model.kind === "labels" && Boolean(state.second));
  const [load, ...parts] = loading(model);
  const texts = [model.prompt + asked.text, ...(asked.second !== undefined ? [asked.second] : [])].map(quote).join(", ");
  return [
    "import minilm",
    "",
    load,
    ...changing(),
    ...parts,
    inputsOf(model, "tokenizer", texts),
    ...(asked.padding ? [`inputs = tokenizer.pad(inputs, padding="max_length", max_length=inputs["input_ids"].shape[1] + ${asked.padding})`] : []),
    ...without(asked.off),
    "operations = minilm.trace(network, inputs, arrays=True)",
  ];
}

/** An array of one operation. */
export function pythonOf(model, i) {
  const derived = state.array.match(/^(\w+)\[(\w+)\]$/);
  const array = derived
    ? `arrays = operations[${i}].arrays\nprint(arrays["${derived[1]}"][arrays["${derived[2]}"]])`
    : `print(operations[${i}].arrays["${state.array}"])`;
  return [...tracing(model), array].join("\n");
}

/** What is in the view. */
export function python(model) {
  const [load] = loading(model);
  const head = ["import minilm", "", load];
  if (state.view === "compare" && model.kind === "vector") {
    return [...head, ...changing(), ...encoding(model, "model", question("a"), "first"), ...encoding(model, "model", question("b"), "second"), "print(model.similarity(first, second))"].join("\n");
  }
  if (state.view === "nearest") {
    const sentences = lines(state.near).map((line) => `    ${quote(line)},`);
    return [...head, "sentences = [", ...sentences, "]", `print(model.similarity(model.encode([${quote(state.text)}]), model.encode(sentences)))`].join("\n");
  }
  if (state.view === "vector") return [...head, ...changing(), ...encoding(model, "model", question()), "print(vector)"].join("\n");
  const layer = state.view.startsWith("layer.") ? state.view.slice(6) : "0";
  return [...tracing(model), "for operation in operations:", "    print(operation)", `attention = next(one for one in operations if one.name.endswith("encoder.layer.${layer}.attention.self"))`, `print(attention.arrays["probabilities"][0, ${state.head}])  # [queries, keys] of head ${state.head + 1}`].join("\n");
}

export const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
