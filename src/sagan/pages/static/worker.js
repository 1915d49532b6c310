// Runs the model, so that the page answers while it draws. Says how many bytes are `loaded`, then answers each question
// {id, z, count, labels, attention} with {id, images, maps}, or with {id, error}.

import * as ort from "./runtime/ort.wasm.min.js";

const part = ending => new URL(`runtime/ort-wasm-simd-threaded.${ending}`, import.meta.url).href;
ort.env.wasm.wasmPaths = { mjs: part("js"), wasm: part("wasm") };
ort.env.wasm.numThreads = 1; // more need headers that a plain host does not send
ort.env.logLevel = "error";

const NO_TRUNCATION = 10000; // latents come truncated

async function fetched(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Error(`${name} is missing (${answer.status})`);
  const parts = [];
  let loaded = 0;
  for (const reader = answer.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    loaded += value.length;
    postMessage({ loaded });
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

async function answer(session, { id, z, count, labels, attention }) {
  const given = {
    z: new ort.Tensor("float32", z, [count, z.length / count]),
    truncation: new ort.Tensor("float32", [NO_TRUNCATION], []),
  };
  if (labels) given.label = new ort.Tensor("int64", BigInt64Array.from(labels, BigInt), [count]);
  const wanted = session.outputNames.filter(name => name === "images" || attention);
  const found = await session.run(given, wanted);
  const images = found.images.data, maps = wanted.filter(name => name !== "images").map(name => found[name].data);
  postMessage({ id, images, maps });
}

const session = fetched("model.onnx").then(model => ort.InferenceSession.create(model));

let before = session; // one at a time
onmessage = ({ data }) => {
  before = before
    .then(async () => answer(await session, data))
    .catch(error => postMessage({ id: data.id, error: String(error.message || error) }));
};
