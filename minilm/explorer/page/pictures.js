// Pictures of arrays: a heat map for many numbers, a matrix with names on both axes for few, and bars.

import { colour, css, isLight, shade } from "./colours.js";
import { button, h, s } from "./dom.js";
import { format } from "./numbers.js";
import { saving } from "./save.js";

const MOST_CELLS = 6000; // of a table
export const shorten = (text, most = 14) => ([...text].length > most ? [...text].slice(0, most - 1).join("") + "…" : text);

/** The size that is drawn in the strongest colour: of many numbers 1 in 200 is larger, or a few would hide the rest. */
export function strong(data) {
  const sizes = Float32Array.from(data, Math.abs).sort();
  return sizes[data.length < 400 ? data.length - 1 : Math.floor(0.995 * data.length)] || 1e-6;
}

const largest = (data) => data.reduce((most, x) => Math.max(most, Math.abs(x)), 0);

/** The numbers behind a picture, for those who cannot see it and those who want to read them; made when it is opened. */
export function table(name, { data, rows, columns, rowNames, columnNames, first = 0, total = columns }) {
  const details = h("details", { class: "numbers", "data-name": name }, h("summary", {}, "Numbers as a table"));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const shown = Math.min(columns, Math.max(1, Math.floor(MOST_CELLS / rows)));
    const head = Array.from({ length: shown }, (_, c) => columnNames?.[c] ?? String(first + c));
    const body = Array.from({ length: rows }, (_, r) =>
      h("tr", {}, h("th", { scope: "row" }, rowNames?.[r] ?? String(r)),
        Array.from({ length: shown }, (_, c) => h("td", { title: String(data[r * total + first + c]) }, format(data[r * total + first + c])))));
    details.append(
      h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `Table: ${name}` },
        h("table", { "data-table": name }, h("caption", {}, name + (shown < columns ? `, the first ${shown} of ${columns} columns` : "")),
          h("thead", {}, h("tr", {}, h("td", {}), head.map((text) => h("th", { scope: "col" }, text)))), h("tbody", {}, body))));
  });
  return details;
}

function legend(most, signed, scale = colour) {
  const stops = Array.from({ length: 13 }, (_, i) => css(scale(signed ? i / 6 - 1 : i / 12, 1, signed)));
  const bar = h("span", { class: "scale", style: { background: `linear-gradient(to right, ${stops.join(", ")})` } });
  return h("span", { class: "legend", title: "What is larger has the colour at the end." }, format(signed ? -most : 0, 2), bar, format(most, 2));
}

function paint(canvas, { data, rows, total, most, signed }, first, columns) {
  canvas.width = columns;
  canvas.height = rows;
  const context = canvas.getContext("2d");
  const image = context.createImageData(columns, rows);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const [red, green, blue] = colour(data[r * total + first + c], most, signed);
      image.data.set([red, green, blue, 255], 4 * (r * columns + c));
    }
  }
  context.putImageData(image, 0, 0);
}

/** A small picture without words: one pixel for a number. */
export function thumbnail({ data, shape }, signed = true, most = strong(data)) {
  const canvas = h("canvas", { class: "thumbnail", "aria-hidden": "true" });
  const total = shape.at(-1);
  paint(canvas, { data, rows: data.length / total, total, most, signed }, 0, total);
  return canvas;
}

/**
 * Many numbers as colours. Pointer and arrow keys read single ones; the buttons zoom in on columns.
 *
 * ``data`` is [rows, columns], flat; ``rowNames`` are written beside it.
 */
export function heatmap(name, { data, columns, rowNames, signed = true, most = strong(data), unit = "component", height = 16, titled = true, named = true }) {
  const rows = data.length / columns;
  const all = { data, rows, total: columns, most, signed };
  let first = 0;
  let shown = columns;
  let [row, column] = [0, 0];
  const canvas = h("canvas", { class: "heat", role: "img", tabindex: 0, "aria-label": `${name}: ${rows} rows, ${columns} columns. Arrow keys read single numbers.`, style: { height: `${rows * height}px` } });
  const cursor = h("span", { class: "cursor", hidden: true });
  const readout = h("output", { class: "readout" }, "Point at the picture to read a number.");
  const behind = h("div", {});

  function draw() {
    paint(canvas, all, first, shown);
    behind.replaceChildren(table(name, { data, rows, columns: shown, rowNames, first, total: columns }));
  }
  function read(r, c) {
    row = Math.min(Math.max(r, 0), rows - 1);
    column = Math.min(Math.max(c, first), first + shown - 1);
    readout.textContent = `${rowNames?.[row] ?? `row ${row}`}, ${unit} ${column}: ${format(data[row * columns + column], 6)}`;
    Object.assign(cursor.style, { left: `${(100 * (column - first)) / shown}%`, width: `${100 / shown}%`, top: `${row * height}px`, height: `${height}px` });
    cursor.hidden = false;
  }
  function zoom(factor) {
    const middle = cursor.hidden ? first + shown / 2 : column;
    shown = Math.min(columns, Math.max(8, Math.round(shown * factor)));
    first = Math.min(Math.max(0, Math.round(middle - shown / 2)), columns - shown);
    cursor.hidden = true;
    draw();
  }
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    read(Math.floor(((event.clientY - box.top) / box.height) * rows), first + Math.floor(((event.clientX - box.left) / box.width) * shown));
  });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    if (cursor.hidden) read(0, first);
    else read(row + step[0], column + step[1]);
  });
  draw();
  return h("figure", { class: "heatmap" },
    titled && h("figcaption", {}, name),
    h("div", { class: "heat-body" },
      named && rowNames && h("div", { class: "row-names", "aria-hidden": "true" }, rowNames.map((text) => h("span", { style: { height: `${height}px`, lineHeight: `${height}px` }, title: text }, shorten(text)))),
      h("div", { class: "heat-canvas" }, canvas, cursor)),
    h("div", { class: "figure-tools" }, readout, legend(most, signed),
      columns > 8 && h("span", { class: "zoom" }, button("+", () => zoom(0.4), { "aria-label": `Zoom in: ${name}` }), button("−", () => zoom(2.5), { "aria-label": `Zoom out: ${name}` })),
      saving(canvas, name, rowNames)),
    behind);
}

/** Few numbers with names on both axes, as an SVG; ``onpick(row, column)`` if cells can be chosen. */
export function matrix(name, { data, rowNames, columnNames, signed = false, most = largest(data), digits = 2, picked, onpick, rowsAre = "", columnsAre = "" }) {
  const [rows, columns] = [rowNames.length, columnNames.length];
  if (Math.max(rows, columns) > 40) {
    const height = Math.max(3, Math.min(12, Math.floor(640 / rows))); // too low for names, if there are many
    return heatmap(name, { data, columns, rowNames, named: height > 9, signed, most: strong(data), unit: "column", height });
  }
  const cell = Math.max(rows, columns) <= 16 ? 38 : 20;
  const [left, top] = [112, 92];
  const cells = [];
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) {
      const value = data[r * columns + c];
      const paint = shade(value, most);
      const chosen = picked && picked[0] === r && (picked[1] === c || picked[1] < 0);
      cells.push(s("g", { class: onpick ? "cell pick" : "cell", "data-at": r * columns + c, onclick: onpick && (() => onpick(r, c)) },
        s("rect", { x: left + c * cell, y: top + r * cell, width: cell - 1, height: cell - 1, rx: 2, fill: css(paint), class: chosen ? "chosen" : "" }),
        value < 0 && s("path", { d: `M${left + c * cell} ${top + (r + 1) * cell - 1}l${cell - 1} ${1 - cell}m0 ${cell / 2}l${-cell / 2} ${cell / 2 - 1}m${-cell / 2} ${-cell / 2}l${cell / 2} ${1 - cell / 2}`, class: "hatch", stroke: isLight(paint) ? "#00000033" : "#ffffff44" }),
        cell > 30 && s("text", { x: left + c * cell + cell / 2, y: top + r * cell + cell / 2 + 4, "text-anchor": "middle", class: isLight(paint) ? "on-light" : "on-dark" }, short(value, digits))));
    }
  }
  const names = [
    rowNames.map((text, r) => s("text", { x: left - 7, y: top + (r + 0.5) * cell + 4, "text-anchor": "end", class: picked?.[0] === r ? "name chosen" : "name" }, shorten(text))),
    columnNames.map((text, c) => s("text", { transform: `translate(${left + (c + 0.5) * cell + 4} ${top - 7}) rotate(-90)`, class: picked?.[1] === c ? "name chosen" : "name" }, shorten(text, 12))),
    s("text", { x: 4, y: 12, class: "axis" }, rowsAre), s("text", { x: 4, y: 27, class: "axis" }, columnsAre),
  ];
  const size = [left + columns * cell + 2, top + rows * cell + 2];
  const picture = s("svg", { viewBox: `0 0 ${size.join(" ")}`, width: size[0], height: size[1], role: "img", "aria-label": name, class: "matrix" }, names.flat(), cells);
  const readout = h("output", { class: "readout" }, "Point at a cell to read its number.");
  picture.addEventListener("pointerover", (event) => {
    const at = Number(event.target.closest("[data-at]")?.dataset.at ?? -1);
    if (at >= 0) readout.textContent = `${rowNames[Math.floor(at / columns)]} → ${columnNames[at % columns]}: ${format(data[at], 6)}`;
  });
  return h("figure", {}, h("div", { class: "scroll-x", tabindex: 0, role: "region", "aria-label": name }, picture),
    h("div", { class: "figure-tools" }, readout, legend(most, signed, shade), saving(picture, name)),
    table(name, { data, rows, columns, rowNames, columnNames }));
}

/** Two decimals, and no zero before the point: that is what fits. */
function short(value, digits) {
  const text = Math.abs(value).toFixed(digits);
  const cut = text.startsWith("0.") ? text.slice(1) : text;
  return (value < 0 && Number(text) ? "−" : "") + cut;
}

/** A bar for each of a few numbers: [[name, value, note?, chosen?], …]. The track is ``most`` long; what is below zero goes left. */
export function bars(name, rows, { most = Math.max(...rows.map((row) => Math.abs(row[1])), 1e-9), digits = 4 } = {}) {
  const low = Math.min(0, ...rows.map((row) => row[1]));
  const long = (size) => `${(100 * size) / (most - low)}%`;
  const bar = (value) => h("div", { class: "track" },
    h("span", { class: value < 0 ? "negative" : "", style: { left: long(Math.min(value, 0) - low), width: long(Math.abs(value)) } }),
    low < 0 && h("i", { class: "zero", style: { left: long(-low) } }));
  return h("table", { class: "bars", "data-table": name }, h("caption", { class: "hidden" }, name),
    h("tbody", {}, rows.map(([label, value, note, chosen]) =>
      h("tr", { class: chosen ? "chosen" : "" }, h("th", { scope: "row", title: label }, label), h("td", { class: "bar" }, bar(value)),
        h("td", { class: "value", title: String(value) }, format(value, digits)), note !== undefined && h("td", { class: "quiet" }, note)))));
}
