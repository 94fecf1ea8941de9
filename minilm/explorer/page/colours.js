// Scales of colour. Lightness alone tells the number, so they survive black and white.

// Signed numbers: dark blue for negative, grey for zero, bright yellow for positive (after cividis).
const SIGNED = [[0, 32, 76], [0, 52, 110], [46, 77, 113], [84, 103, 114], [122, 123, 120], [157, 147, 118], [193, 172, 106], [226, 199, 82], [255, 233, 69]];
// From nothing to much, on light and on dark paper.
const MUCH = [[255, 255, 255], [226, 224, 252], [178, 170, 243], [120, 104, 226], [72, 52, 190], [38, 20, 120], [18, 6, 60]];
const MUCH_DARK = [[27, 29, 38], [42, 40, 84], [66, 58, 146], [104, 90, 208], [152, 138, 244], [204, 196, 255], [250, 248, 255]];

// Below nothing, where nothing is paper: matrices hatch these cells, since lightness cannot tell a sign as well.
const BELOW = [[255, 255, 255], [253, 230, 200], [246, 190, 122], [214, 130, 50], [150, 78, 14], [84, 40, 4]];
const BELOW_DARK = [[27, 29, 38], [70, 46, 20], [120, 74, 24], [186, 116, 40], [240, 180, 90], [255, 226, 180]];

export const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
};

function between(stops, x) {
  const at = Math.min(Math.max(x, 0), 1) * (stops.length - 1);
  const i = Math.min(Math.floor(at), stops.length - 2);
  return stops[i].map((from, c) => Math.round(from + (at - i) * (stops[i + 1][c] - from)));
}

/** The colour [r, g, b] of a number: ``signed`` numbers run from -most to most, others from 0 to most. */
export function colour(x, most, signed) {
  if (signed) return between(SIGNED, 0.5 + x / (2 * most || 1));
  return between(isDark() ? MUCH_DARK : MUCH, x / (most || 1));
}

/** The colour of a number of a matrix with names: nothing is paper, and what is below it has a colour of its own. */
export function shade(x, most) {
  return x < 0 ? between(isDark() ? BELOW_DARK : BELOW, -x / (most || 1)) : colour(x, most, false);
}

export const css = ([r, g, b]) => `rgb(${r}, ${g}, ${b})`;

/** Whether black is easier to read on a colour than white. */
export const isLight = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b > 135;
