// Two texts: their cosine, and which pairs of tokens it is made of.

import { compare, run } from "./api.js";
import { figureOf, h, p, section } from "./dom.js";
import { format } from "./numbers.js";
import { matrix, table } from "./pictures.js";
import { question, state, toggle } from "./state.js";
import { chips, names } from "./tokens.js";

export async function comparison(model, seen) {
  if (!state.second) return [h("h2", {}, "Two texts"), p("Type a second text above, and see how alike the two are.")];
  const [a, b] = [question("a"), question("b")];
  const [first, second, { cosine, split, reason }] = await Promise.all([run(a), run(b), compare(a, b)]);
  const [rowNames, columnNames] = [names(first.tokens), names(second.tokens)];
  const pairs = split?.flatMap((row, i) => row.map((value, j) => [value, i, j])).sort((x, y) => y[0] - x[0]) ?? [];
  const strongest = ([value, i, j]) => h("tr", {}, h("td", {}, rowNames[i]), h("td", {}, columnNames[j]), h("td", { class: "value" }, format(value)));
  const flat = Float32Array.from(split?.flat() ?? []);
  return [
    h("h2", {}, "How alike are two texts?"),
    figureOf(h("span", { id: "cosine", title: String(cosine) }, format(cosine)), "cosine of the two vectors: 1 is the same direction, 0 nothing in common"),
    p("Click a word to switch it off, and see how the cosine changes: the network then leaves the word out."),
    chips("Tokens of the first text", first.tokens, { onpick: (place) => toggle("a", place) }),
    chips("Tokens of the second text", second.tokens, { onpick: (place) => toggle("b", place) }),
    reason && p(reason + "."),
    split && section("The cosine, taken apart",
      p("Each text’s vector is put together from the vectors of its tokens. So the cosine is a sum: every token of the first text adds a share with every token of the second one. All cells together give exactly the number above."),
      h("div", { class: "beside" }, flat.length <= 1600 ? matrix("Shares of the cosine", { data: flat, rowNames, columnNames, signed: true, digits: 3, rowsAre: "first text ↓", columnsAre: "second text →" })
        : [p("There are too many pairs to draw; these are the numbers."), table("Shares of the cosine", { data: flat, rows: rowNames.length, columns: columnNames.length, rowNames, columnNames })],
      h("div", {}, h("table", { class: "plain" }, h("caption", {}, "The largest shares, and those that lower the cosine most"), h("thead", {}, h("tr", {}, ["first text", "second text", "share"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, pairs.slice(0, 5).map(strongest), pairs.slice(-3).filter(([value]) => value < 0).map(strongest))),
        p("Sum of all shares: ", h("strong", { id: "sum" }, format(flat.reduce((sum, x) => sum + x, 0))))))),
  ];
}
