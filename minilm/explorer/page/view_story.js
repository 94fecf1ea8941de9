// A word in two texts: why the same word comes to mean two things. The page begins here.

import { arrays, compare, run } from "./api.js";
import { button, figureOf, fill, h, p, section } from "./dom.js";
import { axes, centred, cosine, dot, format, percent, rowOf } from "./numbers.js";
import { bars, heatmap } from "./pictures.js";
import { plane } from "./plane.js";
import { lines } from "./python.js";
import { question, state, update } from "./state.js";
import { layerStages, stateStages } from "./stages.js";
import { chips, marks, names } from "./tokens.js";
import { list } from "./view_nearest.js";

const MOST_SENTENCES = 12;
const LETTERS = 4; // words such as "of" say little
const SECONDS = 4; // from the first layer to the last, when the map moves

/** The word that is followed: the one picked in the first text, or the longest that both texts have. */
function followed(a, b) {
  const inBoth = a.tokens.map(({ text, special }, i) => (!special && b.tokens.some((other) => other.text === text) ? i : -1)).filter((i) => i >= 0);
  if (inBoth.includes(state.token)) return state.token;
  return inBoth.sort((i, j) => a.tokens[j].text.length - a.tokens[i].text.length)[0] ?? -1;
}

const placeOf = (seen, word) => seen.tokens.findIndex(({ text }) => text === word);

/** The word's vector after the embeddings and after each layer. */
async function path(asked, seen, model, place) {
  const found = await arrays(asked, stateStages(seen, model).map((stage) => ({ stage, array: "output", slice: [0, place] })));
  return found.map(({ data }) => data);
}

/** The head in which the word looks most at a word that the other text does not have. */
async function strongest(asked, seen, other, model, place) {
  const heads = model.num_attention_heads;
  const stages = Array.from({ length: model.num_hidden_layers }, (_, n) => layerStages(seen.stages, n).attention);
  const found = await arrays(asked, stages.map((stage) => ({ stage, array: "probabilities", slice: [0, [0, heads, 1], place] })));
  const isOwn = ({ text, special }, i) => !special && i !== place && placeOf(other, text) < 0;
  const all = seen.tokens.map((_, i) => i).filter((i) => isOwn(seen.tokens[i], i));
  const long = all.filter((i) => seen.tokens[i].text.length >= LETTERS);
  const own = long.length ? long : all;
  const best = { share: -1, layer: 0, head: 0, token: 0, row: [] };
  found.forEach((array, layer) => {
    for (let head = 0; head < heads; head++) {
      const row = rowOf(array, head);
      for (const token of own) {
        if (row[token] > best.share) Object.assign(best, { share: row[token], layer, head, token, row });
      }
    }
  });
  return best;
}

function looking(seen, place, best, which) {
  const word = seen.tokens[place].text;
  if (best.share < 0) return p("Here every word is in the other text as well.");
  const at = names(seen.tokens);
  return h("div", {}, h("h4", {}, `… in the ${which === "a" ? "first" : "second"} text, at “${seen.tokens[best.token].text}”`),
    bars(`looks ${which}`, at.map((text, i) => [text, best.row[i], percent(best.row[i]), i === best.token]), { most: 1 }),
    button(`See layer ${best.layer + 1}, head ${best.head + 1}`, () => update({ view: `layer.${best.layer}`, part: "attention", head: best.head, token: place, key: best.token, which }), { "aria-label": `“${word}” in the ${which === "a" ? "first" : "second"} text: see layer ${best.layer + 1}, head ${best.head + 1}` }));
}

/** The sentences' words on one map that can be moved through the layers. */
function map(paths, labels, depth) {
  const layers = paths[0].length;
  const byLayer = Array.from({ length: layers }, (_, n) => centred(paths.map((path) => path[n])));
  const [first, second] = axes(byLayer.flat());
  const places = byLayer.map((vectors) => vectors.map((vector) => [dot(vector, first), dot(vector, second)]));
  const reach = 1.05 * Math.max(...places.flat(2).map(Math.abs), 1e-6);
  const last = paths.map((path) => path[layers - 1]);
  const kinds = last.map((vector, i) => (i < 2 ? i : cosine(vector, last[0]) >= cosine(vector, last[1]) ? 0 : 1));
  const holder = h("div", {});
  const slider = h("input", { type: "range", min: 0, max: layers - 1, step: 1, value: depth, "aria-label": "Layers", "data-focus": "depth" });
  const says = h("output", {});
  let moving = 0;

  function draw(at) {
    const [low, part] = [Math.floor(at), at % 1];
    const next = places[Math.min(low + 1, layers - 1)];
    fill(holder, plane("The word in each sentence", places[low].map(([x, y], i) => [x + part * (next[i][0] - x), y + part * (next[i][1] - y)]), labels, kinds, reach));
    const layer = Math.round(at);
    says.textContent = `${layer === 0 ? "Before the first layer" : `After layer ${layer}`}: cosine of the first two ${format(cosine(paths[0][layer], paths[1][layer]))}`;
  }
  function play() {
    cancelAnimationFrame(moving);
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      slider.value = layers - 1;
      update({ depth: layers - 1 });
      return;
    }
    const begun = performance.now();
    const frame = (now) => {
      const at = Math.min((layers - 1) * (now - begun) / (1000 * SECONDS), layers - 1);
      slider.value = Math.round(at);
      draw(at);
      if (at < layers - 1 && holder.isConnected) moving = requestAnimationFrame(frame);
    };
    moving = requestAnimationFrame(frame);
  }
  slider.addEventListener("input", () => { cancelAnimationFrame(moving); draw(Number(slider.value)); });
  slider.addEventListener("change", () => update({ depth: Number(slider.value) }));
  draw(depth);
  return [h("div", { class: "controls" }, button("▶ Play: through the layers", play, { class: "primary", "data-focus": "play" }), h("label", { class: "range" }, "Layer ", slider), says), holder];
}

export async function story(model) {
  const [a, b] = [question("a"), question("b")];
  if (!state.second) return [h("h2", {}, "A word in two texts"), p("Type a second text above that shares a word with the first one.")];
  const [first, second] = await Promise.all([run(a), run(b)]);
  const place = followed(first, second);
  if (place < 0) return [h("h2", {}, "A word in two texts"), p("These two texts share no word. Type some that do, or take the first example.")];
  const { text: word, id } = first.tokens[place];
  const there = placeOf(second, word);
  const sentences = lines(state.list).slice(0, MOST_SENTENCES);
  const asked = sentences.map((text) => ({ ...a, text, off: [], padding: 0 }));
  const others = await Promise.all(asked.map(run));
  const having = others.map((seen, i) => [seen, i, placeOf(seen, word)]).filter(([, , at]) => at >= 0);
  const [pathA, pathB, lookA, lookB, { cosine: alike }, ...more] = await Promise.all([
    path(a, first, model, place), path(b, second, model, there),
    strongest(a, first, second, model, place), strongest(b, second, first, model, there),
    compare(a, b),
    ...having.map(([seen, i, at]) => path(asked[i], seen, model, at)),
  ]);
  const same = pathA[0].every((x, i) => x === pathB[0][i]);
  const both = new Float32Array([...pathA[0], ...pathB[0]]);
  const end = cosine(pathA.at(-1), pathB.at(-1));
  const apart = alike < 0.5;
  const quoted = `“${word}”`;
  return [
    h("h2", {}, `Why can ${quoted} mean two things?`),
    h("p", { class: "lead" }, "Because the network lets every word look at its neighbours, and changes it by what it sees. Follow one word, step by step. Choose another in the first text, or write your own."),
    section("1 · It begins as a number",
      p(`The network knows no letters. For it ${quoted} is number ${id} of its vocabulary, in both texts. ${marks(first.tokens, second.tokens)}`),
      chips("Words of the first text", first.tokens, { picked: place, ids: true, onpick: (token) => update({ token }) }),
      chips("Words of the second text", second.tokens, { picked: there, ids: true, onpick: (token) => update({ token: Math.max(0, placeOf(first, second.tokens[token].text)) }) })),
    section(`2 · ${same ? "At first both are the same" : "At first both are nearly the same"}`,
      p(`Number ${id} is looked up in a table: ${model.hidden_size} numbers, drawn as stripes. `, same ? "They are equal to the last digit. Nothing here tells the two meanings apart." : `They differ only because the word stands at another place: cosine ${format(cosine(pathA[0], pathB[0]))}, where 1 is the same. Nothing here tells the two meanings apart.`),
      heatmap(`${quoted} before the first layer`, { data: both, columns: model.hidden_size, rowNames: ["first text", "second text"], height: 26 })),
    section("3 · Then it looks around",
      p(`In each layer every word looks at the others, in ${model.num_attention_heads} heads at once, and takes something over from what it looks at. Here are the heads in which ${quoted} looks most at a word that the other text does not have:`),
      h("div", { class: "beside" }, looking(first, place, lookA, "a"), looking(second, there, lookB, "b"))),
    section("4 · And becomes another word",
      p(`${quoted} in ${2 + having.length} sentences, each as a point. ${same ? "Before the first layer all lie on one spot." : "Before the first layer they lie close together."} Press Play, and watch them move apart from layer to layer. Colour and shape show which of the two texts a point is closer to after the last layer. The cosine says how alike two vectors are: 1 means the same direction, 0 nothing in common.`),
      ...map([pathA, pathB, ...more], [state.text, state.second, ...having.map(([, i]) => sentences[i])], Math.min(state.depth, pathA.length - 1)),
      h("details", {}, h("summary", {}, "Other sentences with this word"), list("list", "One sentence per line")),
      h("details", {}, h("summary", {}, "The cosines as a table"),
        h("table", { class: "plain", "data-table": "cosines" }, h("caption", {}, `Cosine of ${quoted} in the first and in the second text`),
          h("tbody", {}, pathA.map((vector, n) => h("tr", {}, h("th", { scope: "row" }, n ? `after layer ${n}` : "before the first layer"), h("td", {}, format(cosine(vector, pathB[n]))))))))),
    section(apart ? "5 · So the texts differ, too" : "5 · And of such words the text’s vector is made",
      p(`The cosine of the two words has gone from ${format(cosine(pathA[0], pathB[0]), 2)} to ${format(end, 2)}. The vector of a text is made of its words’ last vectors, so the texts end up ${apart ? "far apart, though they share a word" : "near to each other all the same, since more than this word counts"}:`),
      figureOf(format(alike), "cosine of the two texts: 1 is the same direction, 0 nothing in common"),
      h("p", {}, button("Which words make the texts alike?", () => update({ view: "compare" })), " ", button("Go through the network", () => update({ view: "tokens" })))),
  ];
}
