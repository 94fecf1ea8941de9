// Pictures as files.

import { button, h } from "./dom.js";

const STYLES = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity", "font-family", "font-size", "font-weight", "text-anchor", "paint-order"];

function offer(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** The picture as a file of its own: styles that come from the page are written into it. */
function asFile(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")];
  [copy, ...copy.querySelectorAll("*")].forEach((element, i) => {
    const computed = getComputedStyle(originals[i]);
    for (const name of STYLES) element.setAttribute(name, computed.getPropertyValue(name));
  });
  const { width, height } = svg.viewBox.baseVal;
  copy.setAttribute("width", width);
  copy.setAttribute("height", height);
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  paper.setAttribute("width", "100%");
  paper.setAttribute("height", "100%");
  paper.setAttribute("fill", getComputedStyle(document.body).backgroundColor);
  copy.prepend(paper);
  return new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
}

async function svgToCanvas(svg) {
  const image = new Image();
  image.src = URL.createObjectURL(asFile(svg));
  await image.decode();
  const { width, height } = svg.viewBox.baseVal;
  const canvas = h("canvas", { width: 2 * width, height: 2 * height });
  canvas.getContext("2d").drawImage(image, 0, 0, 2 * width, 2 * height);
  URL.revokeObjectURL(image.src);
  return canvas;
}

/** One pixel for a number is little: enlarge, and write the names of the rows beside. */
function enlarged(small, names) {
  const scale = Math.max(2, Math.ceil(1200 / small.width));
  const height = 20;
  const left = names ? 120 : 0;
  const canvas = h("canvas", { width: left + small.width * scale, height: small.height * height });
  const context = canvas.getContext("2d");
  const page = getComputedStyle(document.body);
  context.fillStyle = page.backgroundColor;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, left, 0, canvas.width - left, canvas.height);
  context.fillStyle = page.color;
  context.font = "13px monospace";
  context.textAlign = "right";
  names?.forEach((name, i) => context.fillText(name, left - 8, (i + 0.7) * height, left - 10));
  return canvas;
}

/** Buttons that save a picture: an SVG as SVG or PNG, a canvas as PNG. */
export function saving(picture, name, rowNames) {
  const png = async () => {
    const canvas = picture instanceof SVGElement ? await svgToCanvas(picture) : enlarged(picture, rowNames);
    canvas.toBlob((blob) => offer(blob, `${name}.png`));
  };
  return h("span", { class: "saving" },
    picture instanceof SVGElement && button("SVG", () => offer(asFile(picture), `${name}.svg`), { "aria-label": `Save ${name} as SVG` }),
    button("PNG", png, { "aria-label": `Save ${name} as PNG` }));
}
