// Numbers as text, and a little linear algebra.

const SIGN = "\u2212";

/** What a cosine means. */
export const YARDSTICK = "1 is the same direction, 0 nothing in common, below 0 opposed";

/** Four decimals: 0.1234. Small numbers as 1.2e−7. */
export function format(x, digits = 4) {
  if (!Number.isFinite(x)) return x > 0 ? "∞" : Number.isNaN(x) ? "not a number" : SIGN + "∞";
  const size = Math.abs(x);
  const text = size !== 0 && size < 0.5 * 10 ** -digits ? size.toExponential(1) : size >= 1e6 ? size.toExponential(3) : size.toFixed(digits);
  return (x < 0 ? SIGN : "") + text.replace("e-", "e" + SIGN).replace("e+", "e");
}

/** A share; only what is nothing or all is written so. */
export function percent(x) {
  if (x > 0 && x < 0.005) return "< 1 %";
  return x >= 0.995 && x < 1 ? "> 99 %" : `${Math.round(100 * x)} %`;
}

export const milliseconds = (seconds) =>
  seconds < 0.001 ? `${Math.round(1e6 * seconds)} µs` : `${(1000 * seconds).toFixed(1)} ms`;

const UNITS = [[1e9, "billion"], [1e6, "million"], [1e3, "thousand"]];

export function many(count) {
  const [size, name] = UNITS.find(([size]) => count >= size) ?? [1, ""];
  return size === 1 ? String(count) : `${(count / size).toFixed(count / size < 10 ? 1 : 0)} ${name}`;
}

export const shape = (sizes) => `[${sizes.join(" × ")}]`;

export function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += a[i] * b[i];
  return sum;
}

export const cosine = (a, b) => dot(a, b) / Math.max(Math.sqrt(dot(a, a) * dot(b, b)), 1e-12);

export const argmax = (values) => values.reduce((best, value, i) => (value > values[best] ? i : best), 0);

/** Row i of an array [rows, columns]. */
export const rowOf = (array, i) => {
  const columns = array.shape.at(-1);
  return array.data.subarray(i * columns, (i + 1) * columns);
};

/** Two axes along which vectors differ most (PCA by power iteration on their Gram matrix); vectors are centred. */
export function axes(vectors) {
  const gram = vectors.map((a) => vectors.map((b) => dot(a, b)));
  const found = [];
  for (let axis = 0; axis < 2; axis++) {
    let weights = vectors.map((_, i) => Math.cos(1 + 7 * i + axis));
    let size = 0;
    for (let turn = 0; turn < 200; turn++) {
      const next = gram.map((row) => dot(row, weights));
      size = Math.sqrt(dot(next, next));
      if (size < 1e-9) break;
      weights = next.map((x) => x / size);
    }
    const direction = new Float64Array(vectors[0]?.length ?? 0);
    vectors.forEach((vector, i) => vector.forEach((x, c) => (direction[c] += weights[i] * x)));
    const length = Math.sqrt(dot(direction, direction)) || 1;
    found.push(direction.map((x) => x / length));
    gram.forEach((row, i) => row.forEach((_, j) => (row[j] -= size * weights[i] * weights[j])));
  }
  return found;
}

/** Take the mean out of vectors. */
export function centred(vectors) {
  const mean = new Float64Array(vectors[0].length);
  for (const vector of vectors) vector.forEach((x, c) => (mean[c] += x / vectors.length));
  return vectors.map((vector) => Float64Array.from(vector, (x, c) => x - mean[c]));
}
