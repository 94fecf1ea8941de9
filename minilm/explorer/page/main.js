// The page: when the state changes, ask the server, and draw.

import { describe, Problem, run, setKey } from "./api.js";
import { isDark } from "./colours.js";
import { button, fill, h } from "./dom.js";
import { milliseconds } from "./numbers.js";
import { python } from "./python.js";
import { question, state, subscribe, update } from "./state.js";
import { drawStrip, viewsOf } from "./strip.js";
import { drawTexts } from "./texts.js";
import { answer } from "./view_answer.js";
import { change, nameOf } from "./view_change.js";
import { comparison } from "./view_compare.js";
import { embeddings } from "./view_embeddings.js";
import { layer } from "./view_layer.js";
import { neighbours } from "./view_nearest.js";
import { story } from "./view_story.js";
import { tokens } from "./view_tokens.js";
import { vector } from "./view_vector.js";

const VIEWS = { story, tokens, embeddings, layer, vector, answer, compare: comparison, nearest: neighbours, change };
const root = (id) => document.getElementById(id);
let turn = 0;

// ---- messages ----

function say(...content) {
  fill(root("message"), content.length > 0 && h("div", { class: "message" }, ...content));
}

function explain(error) {
  if (!(error instanceof Problem)) console.error(error);
  const again = button("Try again", () => draw());
  if (error.kind === "key") {
    const key = h("input", { type: "password", "aria-label": "API key", autocomplete: "off" });
    say(h("p", {}, "This server asks for its API key. "), key, button("Use it", () => { setKey(key.value); draw(); }));
  } else {
    say(h("p", {}, error.message || String(error)), again);
  }
}

// ---- the tools at the top ----

const shortName = (name) => name.split("/").at(-1) || name;

function copy(text, done) {
  const finish = () => { root("passed").textContent = done; };
  if (navigator.clipboard) return navigator.clipboard.writeText(text).then(finish, () => showCode(text));
  return showCode(text);
}

function showCode(text) {
  const close = button("Close", () => say());
  say(h("pre", { tabindex: 0 }, h("code", {}, text)), close);
}

let toolsOf = null;

function drawTools(model) {
  if (toolsOf === model) return;
  toolsOf = model;
  fill(root("tools"),
    model.models.length > 1 && h("label", { class: "select" }, "Model ",
      h("select", { onchange: (event) => update({ model: event.target.value, open: -1, view: "tokens" }) },
        model.models.map((name) => h("option", { value: name, selected: name === (state.model || model.models[0]), title: name }, shortName(name))))),
    button("Copy link", () => copy(location.href, "The link is copied.")),
    button("Copy as Python", () => { const code = python(model); showCode(code); copy(code, "The Python is copied."); }),
    button("Light or dark", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      keep("theme", document.documentElement.dataset.theme);
      draw();
    }));
}

/** Remember something from visit to visit, where the browser allows it. */
function keep(name, value) {
  try {
    localStorage.setItem(`minilm-${name}`, value);
  } catch {
    // then not
  }
}

function kept(name) {
  try {
    return localStorage.getItem(`minilm-${name}`);
  } catch {
    return null;
  }
}

// ---- drawing ----

async function draw() {
  const mine = ++turn;
  const begun = performance.now();
  try {
    const model = await describe();
    root("model").textContent = `${shortName(model.name)}: ${model.num_hidden_layers} layers, ${model.num_attention_heads} heads, on ${model.backend}`;
    drawTools(model);
    drawTexts(root("texts"), model);
    const { before, flow, after } = viewsOf(model);
    if (![...before, ...flow, ...after].some(([view]) => view === state.view)) state.view = flow[0][0];
    const pair = model.kind === "labels" && Boolean(state.second);
    const seen = { ...(await run(question(state.which, pair))), pair };
    const [name, number] = state.view.split(".");
    const content = await VIEWS[name](model, seen, Number(number));
    if (mine !== turn) return; // something newer is on its way
    say();
    drawStrip(root("strip"), model, seen);
    fill(root("view"), banner(model), content);
    const seconds = seen.stages.reduce((sum, stage) => sum + stage.seconds, 0);
    root("passed").textContent = `The pass took ${milliseconds(seconds)}.`;
    document.body.dataset.drawn = String(Math.round(10 * (performance.now() - begun)) / 10);
    document.body.dataset.turn = String(mine);
  } catch (error) {
    if (mine === turn) explain(error);
  }
}

/** That the network is not the model's own is said in every view. */
function banner(model) {
  if (!state.change) return null;
  return h("div", { class: "note" }, h("span", {}, "The network is changed: ", h("strong", {}, nameOf(model)), "."), " ", button("Undo", () => update({ change: "" }), { "data-focus": "undo" }));
}

if (["light", "dark"].includes(kept("theme"))) document.documentElement.dataset.theme = kept("theme");
subscribe(draw);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
draw();
