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

function changing(model) {
  if (!state.change) return [];
  const settings = { NoHead: `layer=${state.cl}, head=${state.ch}`, NoLayer: `layer=${state.cl}` }[state.change] ?? "";
  return [`model = model.with_operations(${state.change}(${settings}))`];
}

/** Up to the record of all operations. */
function tracing(model) {
  const asked = question(state.which, model.kind === "labels" && Boolean(state.second));
  const { change } = asked;
  const [load, ...parts] = loading(model);
  const texts = [model.prompt + asked.text, ...(asked.second !== undefined ? [asked.second] : [])].map(quote).join(", ");
  return [
    "import minilm",
    ...(change ? [`from minilm.explorer.changes import ${change}`] : []),
    "",
    load,
    ...(change ? changing(model) : []),
    ...parts,
    `inputs = tokenizer(${texts}, truncation=True, max_length=${model.limit}, return_tensors="np")`,
    ...(asked.padding ? [`inputs = tokenizer.pad(inputs, padding="max_length", max_length=inputs["input_ids"].shape[1] + ${asked.padding})`] : []),
    ...(asked.off?.length ? [`inputs["attention_mask"][0, ${JSON.stringify(asked.off)}] = 0  # switched off`] : []),
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
    return [...head, ...changing(model), `vectors = model.encode([${quote(state.text)}, ${quote(state.second)}])`, "print(model.similarity(vectors[:1], vectors[1:]))"].join("\n");
  }
  if (state.view === "nearest") {
    const sentences = lines(state.near).map((line) => `    ${quote(line)},`);
    return [...head, "sentences = [", ...sentences, "]", `print(model.similarity(model.encode([${quote(state.text)}]), model.encode(sentences)))`].join("\n");
  }
  if (state.view === "vector") return [...head, ...changing(model), `print(model.encode(${quote(question().text)}))`].join("\n");
  const layer = state.view.startsWith("layer.") ? state.view.slice(6) : "0";
  return [...tracing(model), "for operation in operations:", "    print(operation)", `attention = next(one for one in operations if one.name.endswith("encoder.layer.${layer}.attention.self"))`, `print(attention.arrays["probabilities"][0, ${state.head}])  # [queries, keys] of head ${state.head + 1}`].join("\n");
}

export const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
