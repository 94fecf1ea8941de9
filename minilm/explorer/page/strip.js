// The stages from left to right, as the data flows; and what can be done with the result.

import { arrays } from "./api.js";
import { isDark } from "./colours.js";
import { fill, h } from "./dom.js";
import { thumbnail } from "./pictures.js";
import { question, state, update } from "./state.js";
import { stateStages } from "./stages.js";

export function viewsOf(model) {
  const layers = Array.from({ length: model.num_hidden_layers }, (_, n) => [`layer.${n}`, `Layer ${n + 1}`]);
  const isVector = model.kind === "vector";
  const answer = { vector: "Vector", words: "Words", labels: "Labels", token_labels: "Labels" }[model.kind];
  return {
    before: isVector ? [["story", "A word, two meanings"]] : [],
    flow: [["tokens", "Tokens"], ["embeddings", "Embeddings"], ...layers, [isVector ? "vector" : "answer", answer]],
    after: isVector ? [["compare", "Two texts"], ["nearest", "Many texts"], ["change", "Change it"]] : [["change", "Change it"]],
  };
}

let last = "";

export function drawStrip(root, model, seen) {
  const now = JSON.stringify([model.name, state.view, isDark(), question(state.which, seen.pair)]);
  if (now === last) return;
  last = now;
  const { before, flow, after } = viewsOf(model);
  const all = [...before, ...flow, ...after].map(([view]) => view);
  const step = ([view, label]) =>
    h("button", {
      type: "button", class: "step", "aria-current": view === state.view ? "page" : undefined, tabindex: view === state.view ? 0 : -1, "data-view": view, "data-focus": `view ${view}`,
      onclick: () => update({ view, open: -1, row: 0 }),
    }, h("span", { class: "step-picture" }), h("span", {}, label));
  const steps = (list, kind) => h("ol", { class: kind }, list.map((one) => h("li", {}, step(one))));
  fill(root, before.length > 0 && steps(before, "apart"), steps(flow, "flow"), steps(after, "apart"));
  root.onkeydown = (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, Home: -all.length, End: all.length }[event.key];
    if (!move) return;
    event.preventDefault();
    const at = Math.min(Math.max(all.indexOf(state.view) + move, 0), all.length - 1);
    update({ view: all[at], open: -1, row: 0 });
    root.querySelector(`[data-view="${all[at]}"]`)?.focus();
  };
  const current = root.querySelector("[aria-current]");
  if (current) root.scrollLeft = Math.max(0, current.offsetLeft - root.clientWidth / 2);
  pictures(root, model, seen);
}

/** Hidden states, small, into the steps: every eighth component of up to 24 tokens. */
async function pictures(root, model, seen) {
  const tokens = Math.min(seen.tokens.length, 24);
  const parts = stateStages(seen, model).filter((stage) => stage >= 0).map((stage) => ({ stage, array: "output", slice: [0, [0, tokens, 1], [0, model.hidden_size, Math.ceil(model.hidden_size / 48)]] }));
  const found = await arrays(question(state.which, seen.pair), parts).catch(() => []);
  const into = (view, ...content) => root.querySelector(`[data-view="${view}"] .step-picture`)?.replaceChildren(...content);
  found.forEach((array, n) => into(n ? `layer.${n - 1}` : "embeddings", thumbnail(array)));
  into("tokens", h("b", { "aria-hidden": "true" }, String(seen.tokens.length)));
  if (model.kind !== "vector") return;
  const [vector] = await arrays(question(state.which), [{ array: "output" }]);
  into("vector", thumbnail(vector));
}
