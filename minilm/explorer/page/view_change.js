// Change it: another operation in the table, and what that does to the result.

import { arrays, compare, run } from "./api.js";
import { choice, figureOf, h, p, section, select } from "./dom.js";
import { format } from "./numbers.js";
import { heatmap } from "./pictures.js";
import { question, state, update } from "./state.js";
import { whichText } from "./texts.js";
import { shown } from "./view_answer.js";

const label = (summary) => summary.replace(/[.:].*/s, "");
const count = (most) => Array.from({ length: most }, (_, n) => [n, String(n + 1)]);

/** What is changed, in words. */
export function nameOf(model) {
  const where = { NoHead: `, layer ${state.cl + 1}, head ${state.ch + 1}`, NoLayer: `, layer ${state.cl + 1}` }[state.change] ?? "";
  return label(model.changes[state.change]?.summary ?? state.change) + where;
}

function settings(model) {
  if (!["NoHead", "NoLayer"].includes(state.change)) return null;
  return h("div", { class: "controls" },
    select("Layer", count(model.num_hidden_layers), state.cl, (cl) => update({ cl: Number(cl) })),
    state.change === "NoHead" && select("Head", count(model.num_attention_heads), state.ch, (ch) => update({ ch: Number(ch) })));
}

async function effect(model, seen) {
  const asked = question(state.which, seen.pair);
  const { change, layer, head, ...plain } = asked;
  if (model.kind !== "vector") {
    const was = await run(plain);
    return h("div", { class: "beside" }, h("div", {}, h("h3", {}, "As it was"), shown(model, was)), h("div", {}, h("h3", {}, "Now"), shown(model, seen)));
  }
  const part = [{ array: "output" }];
  const [[before], [after]] = await Promise.all([arrays(plain, part), arrays(asked, part)]);
  const data = new Float32Array([...before.data, ...after.data, ...after.data.map((x, i) => x - before.data[i])]);
  let both = null;
  if (state.second) {
    const strip = ({ change, layer, head, ...rest }) => rest;
    const [a, b] = [question("a"), question("b")];
    const [was, is] = await Promise.all([compare(strip(a), strip(b)), compare(a, b)]);
    both = p("The two texts: cosine ", h("strong", {}, format(was.cosine)), " before, ", h("strong", {}, format(is.cosine)), " now.");
  }
  return [
    figureOf(h("span", { id: "moved", title: String(seen.cosine_to_unchanged) }, format(seen.cosine_to_unchanged)), "cosine of the vector before and the vector now: 1 means no change"),
    both,
    heatmap("The vector before, now, and the difference", { data, columns: before.data.length, rowNames: ["before", "now", "difference"], height: 26 }),
  ];
}

const computing = (kind, text) => ({
  vector: `changed.encode(${text})`,
  labels: `changed.predict(${text})`,
  words: `changed.fill_mask(${text})`,
  token_labels: `changed(**tokenizer(${text}, return_tensors="np")).logits`,
})[kind];

export async function change(model, seen) {
  const names = Object.keys(model.changes);
  const chosen = model.changes[state.change];
  const setting = { NoHead: `layer=${state.cl}, head=${state.ch}`, NoLayer: `layer=${state.cl}` }[state.change] ?? "";
  return [
    h("h2", {}, "Change a part of the network, and see what that part does"), whichText(model),
    p("The network calls its operations from a table. Here you exchange one entry of the table; everything else computes as before. The change stays in all views until you undo it."),
    choice("Change", [["", "As it is"], ...names.map((name) => [name, label(model.changes[name].summary)])], state.change, (change) => update({ change })),
    chosen && p(chosen.summary),
    settings(model),
    state.change ? await effect(model, seen) : p("Choose a change."),
    chosen && section("The same in Python",
      h("pre", { tabindex: 0, role: "region", "aria-label": "To compute with it" }, h("code", {}, `from minilm.explorer.changes import ${state.change}\nchanged = model.with_operations(${state.change}(${setting}))\nprint(${computing(model.kind, JSON.stringify(question().text))})`)),
      p("And this is the whole table, with the entry that is exchanged:"),
      h("pre", { tabindex: 0, role: "region", "aria-label": "The table in Python" }, h("code", {}, chosen.source.trimEnd()))),
  ];
}
