// What other models answer: words for a mask, labels of a text or of its tokens.

import { h, p, section } from "./dom.js";
import { bars } from "./pictures.js";
import { afterLayers, operation } from "./stages.js";
import { argmax, percent } from "./numbers.js";
import { names } from "./tokens.js";

function words(model, { words }) {
  if (!words.length) return p("Write ", h("code", {}, model.mask_token), " where a word is to be found: “Paris is the ", h("code", {}, model.mask_token), " of France.”");
  return words.map(({ place, words, probabilities }) => section(`For the mask at place ${place}`, bars(`words ${place}`, words.map((word, i) => [word, probabilities[i], percent(probabilities[i])]), { most: 1 })));
}

function labels(model, { labels }) {
  return bars("labels", model.labels.map((label, i) => [label, labels[0][i], percent(labels[0][i])]), { most: Math.max(1, ...labels[0]) });
}

function tokenLabels(model, { labels, tokens }) {
  return bars("labels of tokens", names(tokens).map((text, i) => [text, Math.max(...labels[i]), model.labels[argmax(labels[i])]]), { most: 1 });
}

/** What the model says of a text, in a few rows. */
export const shown = (model, seen) => ({ words, labels, token_labels: tokenLabels })[model.kind](model, seen);

export async function answer(model, seen) {
  return [
    h("h2", {}, { words: "Which word is missing?", labels: "Which label?", token_labels: "Which label has each token?" }[model.kind]),
    shown(model, seen),
    section("All numbers", ...(await Promise.all(afterLayers(seen).map((i) => operation(model, seen, i))))),
  ];
}
