// Self-attention: all heads small, one of them large, and one score written out.

import { arrays } from "./api.js";
import { isDark } from "./colours.js";
import { button, h, p, s, section } from "./dom.js";
import { argmax, format, percent } from "./numbers.js";
import { bars, heatmap, matrix, strong, thumbnail } from "./pictures.js";
import { saving } from "./save.js";
import { question, state, update } from "./state.js";
import { operation } from "./stages.js";
import { chips, names, within } from "./tokens.js";
import { padding } from "./view_tokens.js";

const SMALL = 48; // tokens of a head that are shown small
const FEW = 24; // tokens up to which the strongest colour of the small pictures is 1
const LINES = 40; // tokens between which lines are drawn

/** One head as lines: on the left who looks, on the right where. The picked token stands out. */
function lines(all, probabilities, picked) {
  const rowNames = names(all);
  const [step, left, right, width] = [22, 118, 250, 370];
  const y = (i) => 18 + i * step;
  const count = all.length;
  const drawn = [];
  for (let i = 0; i < count; i++) {
    for (let j = 0; j < count; j++) {
      const share = probabilities[i * count + j];
      if (share < 0.02) continue;
      drawn.push(s("line", { x1: left, y1: y(i), x2: right, y2: y(j), "stroke-width": 0.5 + 5 * share, opacity: i === picked ? 0.25 + 0.75 * share : 0.25 * share, class: i === picked ? "look picked" : "look" }, s("title", {}, `${rowNames[i]} → ${rowNames[j]}: ${format(share)}`)));
    }
  }
  const side = (x, anchor) => rowNames.map((text, i) =>
    s("text", { x, y: y(i) + 4, "text-anchor": anchor, class: i === picked ? "name chosen pick" : "name pick", onclick: () => update({ token: i, key: -1 }) }, [...text].slice(0, 13).join("")));
  const picture = s("svg", { viewBox: `0 0 ${width} ${18 + count * step}`, role: "img", "aria-label": `Where ${rowNames[picked]} looks, as lines`, class: "lines" }, drawn, side(left - 6, "end"), side(right + 6, "start"));
  return h("figure", {}, h("figcaption", {}, "Left: who looks. Right: where. Thicker is more."), picture, h("div", { class: "figure-tools" }, saving(picture, "attention-lines")));
}

/** Softmax of one score written out, from the products of query and key. */
function writtenOut(model, seen, at, [head, query, key], [q, k, mask], shares) {
  const width = model.hidden_size / model.num_attention_heads;
  const count = seen.tokens.length;
  const rowNames = names(seen.tokens);
  const maskShape = seen.stages[at.attention].shapes.extended_attention_mask;
  const maskAt = (j) => (maskShape[1] === 1 ? mask.data[j] : mask.data[(head * count + query) * count + j]);
  const rowOfKey = (j) => k.data.subarray(j * width, (j + 1) * width);
  const scores = Array.from({ length: count }, (_, j) => rowOfKey(j).reduce((sum, x, c) => sum + x * q.data[c], 0) / Math.sqrt(width));
  const added = scores.map((score, j) => score + maskAt(j));
  const most = Math.max(...added);
  const exponentials = added.map((x) => Math.exp(x - most));
  const total = exponentials.reduce((a, b) => a + b, 0);
  const products = Float32Array.from(q.data, (x, c) => x * rowOfKey(key)[c]);
  const sum = products.reduce((a, b) => a + b, 0);
  const three = new Float32Array([...q.data, ...rowOfKey(key), ...products]);
  const mostRows = 60;
  return section(`Why ${percent(shares[key])}? The score of “${rowNames[query]}” for “${rowNames[key]}”, written out`,
    p(`What “${rowNames[query]}” asks for is its query, what “${rowNames[key]}” offers is its key: ${width} numbers each. They are multiplied one by one, and added up: the better they fit, the larger the sum.`),
    heatmap("Query, key, and their products", { data: three, columns: width, rowNames: ["query", "key", "product"], height: 24 }),
    h("p", { class: "sum-line" }, `query · key = ${format(sum)}   →   divided by √${width}:   `, h("strong", { id: "score" }, format(scores[key])), "   →   softmax over all tokens:   ", h("strong", { id: "probability", title: String(shares[key]) }, format(shares[key]))),
    h("div", { class: count > mostRows ? "scroll" : "scroll-x", tabindex: 0, role: "region", "aria-label": "Softmax, step by step" },
      h("table", { class: "plain", "data-table": "softmax" }, h("caption", {}, `Softmax, step by step: x is a score of “${rowNames[query]}” minus the largest of them. The share is eˣ, divided by the sum of all eˣ, ${format(total)}.`),
        h("thead", {}, h("tr", {}, ["looked at", "score", "+ mask", "eˣ", "share"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, rowNames.map((text, j) => h("tr", { class: j === key ? "chosen" : "" },
          h("th", { scope: "row" }, button(text, () => update({ key: j }), { class: "link", "data-focus": `key ${j}` })),
          h("td", {}, format(scores[j])), h("td", {}, maskAt(j) < -1e30 ? "− ∞, nearly" : format(maskAt(j))), h("td", {}, format(exponentials[j])), h("td", { title: String(shares[j]) }, format(shares[j]))))))),
    p("The mask takes out tokens that are filling or switched off: it adds a very large negative number to their scores, so their share becomes 0. Try it:"), padding());
}

const drawn = new WeakMap(); // the small pictures of all heads stay when another head is chosen

function thumbnails(found, count) {
  const theme = isDark();
  if (drawn.get(found)?.theme !== theme) {
    const size = found.shape.at(-1);
    const most = size > FEW ? strong(found.data) : 1;
    const one = (_, n) => thumbnail({ data: found.data.subarray(n * size * size, (n + 1) * size * size), shape: [size, size] }, false, most);
    drawn.set(found, { theme, all: Array.from({ length: count }, one) });
  }
  return drawn.get(found).all;
}

function small(found, count, head) {
  const pictures = thumbnails(found, count);
  return h("div", { class: "heads", role: "group", "aria-label": "Heads" },
    pictures.map((picture, n) =>
      button(h("span", {}, picture, h("small", {}, String(n + 1))), () => update({ head: n, key: -1 }), { "aria-pressed": String(n === head), "aria-label": `Head ${n + 1}`, class: "head", "data-focus": `head ${n}` })));
}

export async function attention(model, seen, at) {
  const all = seen.tokens;
  const count = all.length;
  const heads = model.num_attention_heads;
  const head = Math.min(state.head, heads - 1);
  const picked = within(all, state.token);
  const step = Math.ceil(count / SMALL);
  const every = [0, count, step];
  const width = model.hidden_size / heads;
  const columns = [head * width, (head + 1) * width, 1];
  const [thumbs, one, ...fits] = await arrays(question(state.which, seen.pair), [
    { stage: at.attention, array: "probabilities", slice: [0, [0, heads, 1], every, every] },
    { stage: at.attention, array: "probabilities", slice: [0, head] },
    { stage: at.attention, array: "query", slice: [0, picked, columns] },
    { stage: at.attention, array: "key", slice: [0, [0, count, 1], columns] },
    { stage: at.attention, array: "extended_attention_mask", slice: [0] },
  ]);
  const rowNames = names(all);
  const row = one.data.subarray(picked * count, (picked + 1) * count);
  const key = state.key >= 0 ? within(all, state.key) : argmax(row);
  const column = rowNames.map((_, i) => one.data[i * count + picked]);
  const show = (values) => rowNames.map((text, i) => [text, values[i], percent(values[i]), i === picked]);
  return [
    p(`This is the only place where tokens meet. In each of ${heads} heads every token asks a question, and looks at those tokens whose offer fits. What they have to say is mixed, in these shares, and becomes part of the token. Rows look, columns are looked at; every row adds up to 1.${rowNames.some((name, i) => name !== all[i].text) ? " A word that comes twice has its position behind it." : ""}`),
    small(thumbs, heads, head),
    step > 1 && h("p", { class: "quiet" }, `The small pictures show one token in ${step}.`),
    h("h3", {}, `Head ${head + 1}: where does “${rowNames[picked]}” look?`),
    chips("Choose a token", all, { picked, onpick: (token) => update({ token, key: -1 }) }),
    h("div", { class: "beside" },
      count <= LINES && lines(all, one.data, picked),
      matrix(`Attention, head ${head + 1}`, { data: one.data, rowNames, columnNames: rowNames, most: 1, picked: [picked, key], rowsAre: "rows look …", columnsAre: "… at columns", onpick: (token, key) => update({ token, key }) })),
    count <= LINES && h("div", { class: "beside" },
      h("div", {}, h("h4", {}, `Where “${rowNames[picked]}” looks`), bars("looks", show(row), { most: 1 })),
      h("div", {}, h("h4", {}, `Who looks at “${rowNames[picked]}”`), bars("looked at", show(column), { most: 1 }))),
    writtenOut(model, seen, at, [head, picked, key], fits, row),
    section("All numbers",
      await operation(model, seen, at.query, "Query: what each token asks for"),
      await operation(model, seen, at.key, "Key: what each token offers"),
      await operation(model, seen, at.value, "Value: what it hands over"),
      await operation(model, seen, at.attention, "Attention: all heads, and the mixture (context)")),
  ];
}
