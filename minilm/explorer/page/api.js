// What is asked of the server, and what it answered before.

import { state } from "./state.js";

const KEPT = 400;
const cache = new Map();
let key = "";

export class Problem extends Error {
  constructor(message, kind) {
    super(message);
    this.kind = kind;
  }
}

export function setKey(value) {
  key = value;
}

async function post(name, body) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  let reply;
  try {
    reply = await fetch(`api/${name}`, {
      method: "POST",
      headers,
      body: JSON.stringify({ ...body, model: state.model || undefined }),
    });
  } catch {
    throw new Problem("The server does not answer. It may have been stopped: start it again with “minilm explore”. What you typed is still here.", "gone");
  }
  if (reply.ok) return reply;
  let message = `The server answered ${reply.status}.`;
  try {
    message = (await reply.json()).error ?? message;
  } catch {
    // no JSON: the status says it
  }
  throw new Problem(message, reply.status === 401 ? "key" : "refused");
}

/** Return what is known under a name, or find it out; an error is forgotten, so that it may be tried again. */
function remember(name, find) {
  if (!cache.has(name)) {
    const found = find();
    cache.set(name, found);
    found.catch(() => cache.delete(name));
    if (cache.size > KEPT) cache.delete(cache.keys().next().value);
  }
  return cache.get(name);
}

const asJson = (name, body) =>
  remember(`${state.model} ${name} ${JSON.stringify(body)}`, async () => (await post(name, body)).json());

export const describe = () => asJson("model", {});
export const run = (question) => asJson("run", { question });
export const compare = (a, b) => asJson("compare", { a, b });
export const nearest = (text, sentences) => asJson("nearest", { text, sentences });

/** Fetch parts of arrays: [{stage, array, slice}] → [{shape, data}], in one request for all that are missing. */
export async function arrays(question, parts) {
  const asked = JSON.stringify(question);
  const names = parts.map((part) => `${state.model} ${asked} ${JSON.stringify(part)}`);
  const found = names.map((name) => cache.get(name)); // at once: what is added below may push them out
  const missing = parts.map((_, i) => i).filter((i) => !found[i]);
  if (missing.length) {
    const answer = fetchArrays(question, missing.map((i) => parts[i]));
    missing.forEach((i, at) => (found[i] = remember(names[i], async () => (await answer)[at])));
  }
  return Promise.all(found);
}

async function fetchArrays(question, parts) {
  const reply = await post("arrays", { question, parts });
  const numbers = new Float32Array(await reply.arrayBuffer());
  let start = 0;
  return JSON.parse(reply.headers.get("X-Shapes")).map((shape) => {
    const size = shape.reduce((a, b) => a * b, 1);
    const data = numbers.subarray(start, start + size);
    start += size;
    return { shape, data };
  });
}
