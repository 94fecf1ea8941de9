// Elements by hand: text is always text, never markup.

function make(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === false || value === undefined || value === null) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.assign(element.style, value);
    else if (name === "value" || name === "checked") element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element of HTML: h("p", {class: "quiet"}, "text", …). */
export const h = (tag, attributes, ...children) => make(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) =>
  make(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

/** A button; ``focus`` names it, so that the keyboard finds it again after the page was drawn anew. */
export const button = (label, onclick, attributes = {}) =>
  h("button", { type: "button", "data-focus": typeof label === "string" ? label : undefined, ...attributes, onclick }, label);

/** Replace what is in an element, and put the focus back to where it was. */
export function fill(root, ...children) {
  const active = root.contains(document.activeElement) ? document.activeElement.dataset.focus : null;
  root.replaceChildren(...children.flat(Infinity).filter(Boolean));
  if (active) [...root.querySelectorAll("[data-focus]")].find((one) => one.dataset.focus === active)?.focus({ preventScroll: true });
}

/** Buttons of which one is chosen: [[value, label], …]. */
export function choice(label, options, chosen, onchoose) {
  return h("div", { class: "choice", role: "group", "aria-label": label },
    options.map(([value, text]) =>
      button(text, () => onchoose(value), { "aria-pressed": String(value === chosen), "data-focus": `${label} ${value}` })));
}

/** A drop-down list. */
export function select(label, options, chosen, onchoose) {
  return h("label", { class: "select" }, label, " ",
    h("select", { "data-focus": label, onchange: (event) => onchoose(event.target.value) },
      options.map(([value, text]) => h("option", { value, selected: String(value) === String(chosen) }, text))));
}

/** A headed part of a view. */
export const section = (title, ...children) => h("section", {}, h("h3", {}, title), ...children);

/** A paragraph. */
export const p = (...children) => h("p", {}, ...children);

/** A number that the page makes much of. */
export const figureOf = (value, label) => h("p", { class: "big" }, h("strong", {}, value), h("span", { class: "quiet" }, label));
