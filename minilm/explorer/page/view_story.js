// A word in two texts: why the same word comes to mean two things. The page begins here.

import { arrays, compare, run } from "./api.js";
import { button, figureOf, fill, h, p, section } from "./dom.js";
import { telling } from "./looks.js";
import { axes, centred, cosine, dot, format, percent, YARDSTICK } from "./numbers.js";
import { bars, heatmap } from "./pictures.js";
import { plane } from "./plane.js";
import { lines } from "./python.js";
import { question, state, update } from "./state.js";
import { stateStages } from "./stages.js";
import { chips, marks, names } from "./tokens.js";
import { list } from "./view_nearest.js";

const MOST_SENTENCES = 12;
const SECONDS = 4; // from the first layer to the last, when the map moves
const [SAME, ALIKE, APART] = [0.9, 0.6, 0.5]; // cosines from which the story speaks of the same, of alike; below, of different texts

/** The word that is followed: the one picked in the first text, or the longest that both texts have. */
function followed(a, b) {
  const inBoth = a.tokens.map(({ text, special }, i) => (!special && placeOf(b, text) >= 0 ? i : -1)).filter((i) => i >= 0);
  if (inBoth.includes(state.token)) return state.token;
  const weight = (i) => (a.tokens[i].masked ? 0 : a.tokens[i].text.length);
  return inBoth.sort((i, j) => weight(j) - weight(i))[0] ?? -1;
}

const placeOf = (seen, word) => seen.tokens.findIndex(({ text }) => text === word);

/** The word's vector after the embeddings and after each layer. */
async function path(asked, seen, model, place) {
  const found = await arrays(asked, stateStages(seen, model).map((stage) => ({ stage, array: "output", slice: [0, place] })));
  return found.map(({ data }) => data);
}

/** The word in one text through the eyes of one head. */
function looking({ seen, place }, found, which) {
  const word = seen.tokens[place].text;
  const [row, top] = [found.rows, found.tops].map((both) => both[which === "a" ? 0 : 1]);
  const text = which === "a" ? "first" : "second";
  const at = names(seen.tokens);
  const title = top < 0 ? ", where every word is in the other text as well" : `: ${percent(row[top])} at “${seen.tokens[top].text}”`;
  return h("div", {}, h("h4", {}, `In the ${text} text${title}`),
    bars(`looks ${which}`, at.map((name, i) => [name, row[i], percent(row[i]), i === top]), { most: 1 }),
    button(`See layer ${found.layer + 1}, head ${found.head + 1}`, () => update({ view: `layer.${found.layer}`, part: "attention", head: found.head, token: place, key: top, which }), { "aria-label": `“${word}” in the ${text} text: see layer ${found.layer + 1}, head ${found.head + 1}` }));
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
    says.textContent = `${layer === 0 ? "Before the first layer" : `After layer ${layer}`}: cosine of the first two points ${format(cosine(paths[0][layer], paths[1][layer]))}`;
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

/** How the cosine of the word goes through the layers, in a sentence. */
function course(cosines) {
  const [last, low] = [cosines.length - 1, cosines.indexOf(Math.min(...cosines))];
  const rises = cosines.map((x, n) => n).filter((n) => n > 0 && cosines[n] > cosines[n - 1] + 5e-5);
  const from = `The cosine of the word in the two texts goes from ${format(cosines[0])} to ${format(cosines[last])}`;
  if (Math.max(...cosines) - cosines[low] < 5e-5) return `The cosine of the word in the two texts is ${format(cosines[last])} before and after every layer.`;
  if (!rises.length) return `${from}, lower from layer to layer.`;
  const again = `it rises in ${rises.length === 1 ? "layer" : "layers"} ${rises.join(", ").replace(/, (\d+)$/, " and $1")}`;
  return `${from}, but not lower in every layer: ${again}${low < last ? `, and is lowest ${low ? `after layer ${low}` : "before the first layer"}, at ${format(cosines[low])}` : ""}.`;
}

/** What the cosine of the two texts says, beside that of the word. */
function verdict(alike, end) {
  const size = alike >= SAME ? "The two texts end up nearly the same" : alike >= APART ? "The two texts end up alike" : "The two texts end up different";
  const beside = Math.abs(alike - end) < 0.05 ? "about as alike as the word in them" : alike < end ? "less alike than the word in them" : "more alike than the word in them";
  return `${size}, ${beside}.`;
}

/** One of the texts as words; those that both texts have can be chosen. */
function wordsOf(label, seen, other, picked, onpick) {
  return chips(label, seen.tokens, { picked, ids: true, onpick, can: (i) => !seen.tokens[i].special && placeOf(seen, seen.tokens[i].text) === i && placeOf(other, seen.tokens[i].text) >= 0 });
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
  const sides = [{ asked: a, seen: first, place }, { asked: b, seen: second, place: there }];
  const [pathA, pathB, found, { cosine: alike }, ...more] = await Promise.all([
    path(a, first, model, place), path(b, second, model, there),
    telling(model, sides),
    compare(a, b),
    ...having.map(([seen, i, at]) => path(asked[i], seen, model, at)),
  ]);
  const same = pathA[0].every((x, i) => x === pathB[0][i]);
  const both = new Float32Array([...pathA[0], ...pathB[0]]);
  const end = cosine(pathA.at(-1), pathB.at(-1));
  const means = end < SAME; // two things
  const cosines = pathA.map((vector, n) => cosine(vector, pathB[n]));
  const quoted = `“${word}”`;
  return [
    h("h2", {}, means ? `Why can ${quoted} mean two things?` : `${quoted} means nearly the same in both texts`),
    h("p", { class: "lead" }, `${means ? "Because the network lets" : "The network lets"} every word look at its neighbours, and changes it by what it sees${means ? "" : ": here that makes little difference"}. Follow one word, step by step. Choose another one that both texts have, or write your own texts.`),
    section("1 · It begins as a number",
      p(`The network knows no letters. For it ${quoted} is number ${id} of its vocabulary, in both texts. ${marks(first.tokens, second.tokens)}`),
      wordsOf("Words of the first text", first, second, place, (token) => update({ token })),
      wordsOf("Words of the second text", second, first, there, (token) => update({ token: placeOf(first, second.tokens[token].text) }))),
    section(`2 · ${same ? "At first both are the same" : "At first both are nearly the same"}`,
      p(`Number ${id} is looked up in a table. Its row has ${model.hidden_size} numbers: these are the word’s vector, drawn as stripes below. Then the row of the place where the word stands is added. `,
        same ? `${place === there ? "The word stands at the same place in both texts" : "The change leaves the rows of the places out"}, so the vectors are equal to the last digit.` : `The word’s row is the same in both texts. ${place === there ? "What is added to it differs" : `It stands at place ${place} in the first text and at place ${there} in the second, so the row that is added differs`}. The cosine says how alike two vectors are: ${YARDSTICK}. Here it is ${format(cosines[0])}.`,
        " Nothing here tells what the word means in its sentence."),
      heatmap(`${quoted} before the first layer`, { data: both, columns: model.hidden_size, rowNames: ["first text", "second text"], height: 26 })),
    section("3 · Then it looks around",
      p(`In each layer every word looks at the others, in ${model.num_attention_heads} heads, and takes something over from what it looks at. A head is one of ${model.num_attention_heads} places in a layer where words look at each other. Many heads do the same for every word, such as looking at the word before it.`),
      found
        ? [p(`Leaving those out, this is the head in which ${quoted} looks most at words that only one of the two texts has: layer ${found.layer + 1}, head ${found.head + 1}. The shares of a text add up to 100 %.`),
          h("div", { class: "beside" }, looking(sides[0], found, "a"), looking(sides[1], found, "b"))]
        : p(`In these two texts no head shows ${quoted} looking at different words.`)),
    section(`4 · ${end >= SAME ? "It stays nearly the same" : end >= ALIKE ? "So its two vectors move apart" : "And becomes another word"}`,
      p(`What the word takes over is added to its vector, so the vector changes from layer to layer. Below is ${quoted} in ${2 + having.length} sentences, each as a point. ${same ? "Before the first layer those that stand at the same place lie on one spot." : "Before the first layer they lie close together."} Press Play, and watch where they go.`),
      p(`A vector has ${model.hidden_size} numbers, the picture has two: it is a shadow of the vectors, seen so that these points differ most. The exact measure is the cosine: ${YARDSTICK}. ${course(cosines)} Colour and shape show which of the two texts a point is closer to after the last layer.`),
      ...map([pathA, pathB, ...more], [state.text, state.second, ...having.map(([, i]) => sentences[i])], Math.min(state.depth, pathA.length - 1)),
      h("details", {}, h("summary", {}, "Other sentences with this word"), list("list", "One sentence per line")),
      h("details", {}, h("summary", {}, "The cosines as a table"),
        h("table", { class: "plain", "data-table": "cosines" }, h("caption", {}, `Cosine of ${quoted} in the first and in the second text`),
          h("tbody", {}, cosines.map((x, n) => h("tr", {}, h("th", { scope: "row" }, n ? `after layer ${n}` : "before the first layer"), h("td", {}, format(x)))))))),
    section(alike >= SAME ? "5 · And the texts are nearly the same" : alike < APART ? "5 · And the texts differ" : "5 · And of such words the text’s vector is made",
      p(`The vector of a text is made of the last vectors of all its words, and ${quoted} is one of them. ${verdict(alike, end)}`),
      figureOf(format(alike), `cosine of the two texts: ${YARDSTICK}`),
      h("p", {}, button("Which words make the texts alike?", () => update({ view: "compare" })), " ", button("Go through the network", () => update({ view: "tokens" })))),
  ];
}
