// Text → tokens: pieces, ids, what they stand for, what is lost.

import { button, h, p, section } from "./dom.js";
import { state, update } from "./state.js";
import { chips, marks, within } from "./tokens.js";
import { whichText } from "./texts.js";

const code = (text) => h("code", {}, h("bdi", {}, text));

/** Python counts characters by code points, JavaScript by UTF-16 units. */
const between = (characters, { place: [start, end] }) => characters.slice(start, end).join("");

/** Buttons that fill a text up. */
export const padding = () =>
  h("p", {}, button("−", () => update({ padding: Math.max(0, state.padding - 1) }), { "aria-label": "Less padding", disabled: state.padding === 0 }), ` ${state.padding} tokens of padding `,
    button("+", () => update({ padding: Math.min(8, state.padding + 1) }), { "aria-label": "More padding" }));

export function tokens(model, seen) {
  const all = seen.tokens;
  const picked = within(all, state.token);
  const b = state.which === "b" && state.second;
  const texts = [[...model.prompt, ...(b ? state.second : state.text)], [...state.second]];
  const textOf = (token) => between(texts[token.sequence === 1 ? 1 : 0], token);
  const isUnknown = ({ text }) => /^(\[UNK\]|<unk>)$/.test(text);
  const changed = all.filter((token) => !token.special && !isUnknown(token) && token.text.replace(/^(##|▁|Ġ)/, "") !== textOf(token) && token.place[1] > token.place[0]);
  const unknown = all.filter(isUnknown);
  const chosen = all[picked];
  return [
    h("h2", {}, "Text → tokens"), whichText(model),
    p(`The model reads no letters, it reads numbers. So the text is cut into pieces that stand in a vocabulary of ${model.vocab_size.toLocaleString("en")} pieces, and each piece has a number there. A frequent word is one piece; a rare one is put together from several. ${marks(all)}`),
    model.prompt && p("This model puts its own words before every text: “", code(model.prompt), "”."),
    chips("Tokens", all, { picked, onpick: (token) => update({ token, key: -1 }), ids: true }),
    p("Token ", h("strong", {}, String(picked)), ": ", code(chosen.text), ` has the number ${chosen.id}`,
      chosen.special ? ". It stands for no letters of the text: the model expects it there." : [" and stands for “", code(textOf(chosen)), `”, characters ${chosen.place[0]} to ${chosen.place[1] - 1}.`]),
    seen.lost > 0 && h("p", { class: "note" }, `The text is too long: ${all.length} tokens are read, and ${seen.lost >= 10000 ? "more than 10,000" : seen.lost.toLocaleString("en")} more are cut off at the end.`),
    section("What is lost before the model reads",
      changed.length + unknown.length === 0 && p("Here: nothing but the spaces."),
      changed.length > 0 && h("ul", {}, changed.slice(0, 12).map((token) => h("li", {}, "“", code(textOf(token)), "” is read as ", code(token.text)))),
      unknown.length > 0 && p("Not in the vocabulary, and so all read as the same token, ", code(unknown[0].text), ": ", unknown.map((token) => [code(textOf(token)), " "]))),
    section("Padding",
      p("Texts that are computed together are filled up to the same length. The attention mask hides the filling from all other tokens. Add some: neither the attention of a layer nor the vector changes."),
      padding()),
  ];
}
