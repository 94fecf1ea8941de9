// Tokens as they are shown everywhere: as buttons, and as names of rows.

import { button, h } from "./dom.js";

const MANY = 80; // tokens, which get a box of their own to scroll in

/** Names that differ: a word that comes twice gets its place. */
export function names(tokens) {
  const count = new Map();
  for (const { text } of tokens) count.set(text, (count.get(text) ?? 0) + 1);
  return tokens.map(({ text }, i) => (count.get(text) > 1 ? `${text} ·${i}` : text));
}

/** What those tokens of a text mean that are no words; pieces may be in another text as well. */
export function marks(tokens, others = []) {
  const [first, last] = [tokens[0], tokens.findLast(({ masked }) => !masked) ?? tokens[0]];
  const ends = first !== last && first.special && last.special ? `${first.text} and ${last.text} mark where the text begins and ends.` : "";
  const pieces = [...tokens, ...others].some(({ text }) => text.startsWith("##")) ? "A piece with ## continues the word before it." : "";
  return [ends, pieces].filter(Boolean).join(" ");
}

/** A row of tokens; ``onpick(place)`` chooses one. */
export function chips(label, tokens, { picked, onpick, ids = false} = {}) {
  return h("div", { class: tokens.length > MANY ? "chips many" : "chips", role: "group", "aria-label": label, dir: "ltr" },
    tokens.map((token, i) =>
      button(h("span", {}, h("bdi", {}, token.text || "␀"), ids && h("small", {}, String(token.id)), h("span", { class: "hidden" }, `, token ${i}${token.masked ? ", switched off" : ""}`)), () => onpick(i), {
        class: ["chip", token.special && "special", token.masked && "masked"].filter(Boolean).join(" "),
        "aria-pressed": String(i === picked),
        "data-focus": `${label} ${i}`,
      })));
}

/** A place among the tokens that is there. */
export const within = (tokens, place) => Math.min(Math.max(place, 0), tokens.length - 1);
