// Points in a plane, with names.

import { h, s } from "./dom.js";
import { format } from "./numbers.js";
import { shorten } from "./pictures.js";
import { saving } from "./save.js";

const [HEIGHT, EDGE] = [400, 40];
const LETTER = 7.3; // how wide one is

const box = (left, right, top, bottom) => ({ left, right, top, bottom });
const overlap = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

/**
 * A map: places [[x, y], …], one name and one kind (0, 1, …) for each; ``reach`` is the number at the edge.
 *
 * Kinds differ in colour and in form. A name that finds no room is left out; the table has it.
 */
export function plane(title, places, labels, kinds, reach) {
  const [width, letters] = matchMedia("(max-width: 40rem)").matches ? [420, 15] : [800, 26];
  const room = letters * LETTER; // names stand outside of the points, where there is room for so many letters
  const most = reach ?? Math.max(...places.flat().map(Math.abs), 1e-6);
  const x = (value) => width / 2 + (value / most) * (width / 2 - room - 14);
  const y = (value) => HEIGHT / 2 - (value / most) * (HEIGHT / 2 - EDGE);
  const taken = places.map(([a, b]) => box(x(a) - 8, x(a) + 8, y(b) - 8, y(b) + 8));
  /** The line for a name: where it covers no point and no other name. */
  const free = (left, right, line) => {
    const name = box(left, right, line - 11, line + 3);
    while (taken.some((other) => overlap(name, other))) {
      name.top += 3;
      name.bottom += 3;
    }
    taken.push(name);
    return name.bottom - 3;
  };
  const fromTop = places.map((_, i) => i).sort((i, j) => places[j][1] - places[i][1]);
  const leaders = []; // from points to their names, where these are not beside them
  const points = fromTop.map((i) => {
    const [a, b] = places[i];
    const [left, top] = [x(a), y(b)];
    const onLeft = a < -1e-3 * most;
    const name = shorten(labels[i], letters);
    const start = left + (onLeft ? -12 : 12);
    const end = start + (onLeft ? -1 : 1) * LETTER * name.length;
    const line = free(Math.min(start, end), Math.max(start, end), top + 4);
    const mark = kinds[i] === 0 ? s("circle", { cx: left, cy: top, r: 7, class: "point kind0" }) : s("rect", { x: left - 6, y: top - 6, width: 12, height: 12, class: `point kind${kinds[i]}` });
    if (line < HEIGHT && Math.abs(line - top - 4) > 8) leaders.push(s("line", { x1: left, y1: top, x2: left + (onLeft ? -10 : 10), y2: line - 4, class: "grid" }));
    return s("g", {}, s("title", {}, `${labels[i]}: ${format(a, 2)}, ${format(b, 2)}`), mark,
      line < HEIGHT && s("text", { x: start, y: line, "text-anchor": onLeft ? "end" : "start", class: "name" }, name));
  });
  const picture = s("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": title, class: "plane" },
    s("line", { x1: EDGE, x2: width - EDGE, y1: HEIGHT / 2, y2: HEIGHT / 2, class: "grid" }), s("line", { x1: width / 2, x2: width / 2, y1: EDGE / 2, y2: HEIGHT - EDGE / 2, class: "grid" }), leaders, points);
  return h("figure", {}, h("div", { class: "scroll-x", tabindex: 0, role: "region", "aria-label": title }, picture), h("div", { class: "figure-tools" }, saving(picture, "map")),
    h("details", { class: "numbers" }, h("summary", {}, "Numbers as a table"),
      h("table", { class: "plain" }, h("thead", {}, h("tr", {}, ["", "across", "up"].map((text) => h("th", { scope: "col" }, text)))),
        h("tbody", {}, places.map(([a, b], i) => h("tr", {}, h("th", { scope: "row" }, labels[i]), h("td", {}, format(a)), h("td", {}, format(b))))))));
}
