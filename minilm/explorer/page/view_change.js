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
    figureOf(h("span", { id: "moved", title: String(seen.cosine_to_unchanged) }, format(seen.cosine_to_unchanged)), "cosine of the vector with what it was: 1 is no change at all"),
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
    h("h2", {}, "Change the network, and see what it is good for"), whichText(model),
    p("The network calls its operations from a table. Exchange one entry, and everything else computes as before. The change holds in all views, until it is undone."),
    choice("Change", [["", "As it is"], ...names.map((name) => [name, label(model.changes[name].summary)])], state.change, (change) => update({ change })),
    chosen && p(chosen.summary),
    settings(model),
    state.change ? await effect(model, seen) : p("Choose one of these."),
    chosen && section("The table, in Python",
      h("pre", { tabindex: 0, role: "region", "aria-label": "The table in Python" }, h("code", {}, chosen.source.trimEnd())),
      p("To compute with it:"),
      h("pre", { tabindex: 0, role: "region", "aria-label": "To compute with it" }, h("code", {}, `from minilm.explorer.changes import ${state.change}\nchanged = model.with_operations(${state.change}(${setting}))\nprint(${computing(model.kind, JSON.stringify(question().text))})`))),
  ];
}
