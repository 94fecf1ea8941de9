// Where one word looks in two texts: the head that shows the difference best.

import { arrays } from "./api.js";
import { argmax, rowOf } from "./numbers.js";
import { state } from "./state.js";
import { layerStages } from "./stages.js";

const MOST_NUMBERS = 1 << 19; // of the probabilities that are fetched of one text
const FIXED = 0.6; // a head is fixed if so large a share of the words has its maximum at the same distance
const FEW = 4; // words on which that cannot be judged
const LETTERS = 4;
const SMALL_WORDS = new Set("also been from have into just more most only over than that them then there they this very were what when which will with would your".split(" "));

/** The words of a text that say what it is about and are not in the other one; if there are none, all that are its own. */
function ownWords(seen, other, place) {
  const others = new Set(other.tokens.map(({ text }) => text));
  const own = seen.tokens.map((_, i) => i).filter((i) => {
    const { text, special, masked } = seen.tokens[i];
    return i !== place && !special && !masked && !others.has(text) && /[\p{L}\p{N}]/u.test(text);
  });
  const content = own.filter((i) => seen.tokens[i].text.length >= LETTERS && !SMALL_WORDS.has(seen.tokens[i].text));
  return content.length ? content : own;
}

/** Whether the change has switched a head off: it still looks, but hands nothing over. */
const isOff = (layer, head) => layer === state.cl && (state.change === "NoLayer" || (state.change === "NoHead" && head === state.ch));

/** Of each layer the probabilities [heads, queries, tokens]: the word's own row, and all rows, or one in a few. */
async function fetched(asked, seen, model, place) {
  const [heads, count] = [model.num_attention_heads, seen.tokens.length];
  const stages = Array.from({ length: model.num_hidden_layers }, (_, n) => layerStages(seen.stages, n).attention);
  const step = Math.ceil((stages.length * heads * count * count) / MOST_NUMBERS);
  const every = [0, [0, heads, 1], [0, count, step]];
  const found = await arrays(asked, [...stages.map((stage) => ({ stage, array: "probabilities", slice: every })), ...stages.map((stage) => ({ stage, array: "probabilities", slice: [0, [0, heads, 1], place] }))]);
  return { step, rows: found.slice(0, stages.length), own: found.slice(stages.length) };
}

/** What the words of a text look at most: a distance for each, or "end" for [CLS] and [SEP]. */
function maxima(seen, { step, rows }, layer, head) {
  const [, queries, count] = rows[layer].shape;
  const found = [];
  for (let q = 0; q < queries; q++) {
    const i = q * step;
    if (seen.tokens[i].special || seen.tokens[i].masked) continue;
    const start = (head * queries + q) * count;
    const most = argmax(rows[layer].data.subarray(start, start + count));
    found.push(seen.tokens[most].special ? "end" : most - i);
  }
  return found;
}

/** Whether a head does the same for nearly every word, such as looking one word to the left: that shows no meaning. */
function isFixed(all) {
  if (all.length < FEW) return false;
  const times = new Map();
  for (const one of all) times.set(one, (times.get(one) ?? 0) + 1);
  return Math.max(...times.values()) >= FIXED * all.length;
}

/**
 * The head in which a word looks most differently in two texts: at those words that only one of them has.
 *
 * ``sides`` are [{asked, seen, place}, …]. Heads that are off, and heads that are fixed, do not count. Returns the layer,
 * the head, and for each side its row of shares, and the word of its own that it looks at most, or -1; or null.
 */
export async function telling(model, [a, b]) {
  const [shares, ...own] = [await Promise.all([a, b].map(({ asked, seen, place }) => fetched(asked, seen, model, place))), ownWords(a.seen, b.seen, a.place), ownWords(b.seen, a.seen, b.place)];
  let best = null;
  for (let layer = 0; layer < model.num_hidden_layers; layer++) {
    for (let head = 0; head < model.num_attention_heads; head++) {
      if (isOff(layer, head) || isFixed([a, b].flatMap(({ seen }, n) => maxima(seen, shares[n], layer, head)))) continue;
      const rows = shares.map((one) => rowOf(one.own[layer], head));
      const sums = own.map((places, n) => places.reduce((sum, i) => sum + rows[n][i], 0)).filter((_, n) => own[n].length);
      const score = sums.length ? Math.min(...sums) : 0; // both texts must show it
      if (score > (best?.score ?? 0)) best = { score, layer, head, rows };
    }
  }
  if (!best) return null;
  const tops = own.map((places, n) => places.reduce((top, i) => (top < 0 || best.rows[n][i] > best.rows[n][top] ? i : top), -1));
  return { ...best, tops };
}
