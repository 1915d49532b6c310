// The page of an exported generator: the model runs here, in a worker.

import { bytes, floats, lightOf, queryAt } from "./attention.js";
import { numberedLatent, slerp } from "./latents.js";
import { saying } from "./status.js";
import { positionOf, studio } from "./studio.js";

const say = saying(document.getElementById("status"));
const facts = await fetch("model.json").then(answer => answer.json());
const directions = facts.directions.map(floats);

// ---- the worker

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let questions = 0;

worker.onmessage = ({ data }) => {
  if (data.loaded) {
    say(`loading the model: ${megabytes(data.loaded)} of ${megabytes(facts.bytes)}`);
    return;
  }
  const { done, failed } = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.error) failed(new Error(data.error));
  else done(data);
};

worker.onerror = event => {
  for (const { failed } of waiting.values()) failed(new Error(event.message || "the runtime cannot be loaded"));
  waiting.clear();
};

function ask(latents, labels, attention) {
  const z = new Float32Array(latents.length * facts.z_dim), id = questions++;
  latents.forEach((latent, i) => z.set(latent, i * facts.z_dim));
  worker.postMessage({ id, z, count: latents.length, labels, attention }, [z.buffer]);
  return new Promise((done, failed) => waiting.set(id, { done, failed }));
}

function megabytes(count) {
  return `${(count / 1e6).toFixed(1)} MB`;
}

// ---- what is asked for, as latents

function latentsOf(asked, numbers) {
  const drawn = number => numberedLatent(asked.seed, number, facts.z_dim, asked.truncation);
  const moved = z => z.map((value, i) => asked.along.reduce((sum, amount, k) => sum + amount * directions[k][i], value));
  if (numbers) return numbers.map(number => moved(drawn(number)));
  const at = positionOf(asked), start = Math.floor(at), { pins } = asked;
  return [moved(slerp(drawn(pins[start]), drawn(pins[(start + 1) % pins.length]), at % 1))];
}

function labelsOf(asked, numbers) {
  const { classes } = facts;
  return classes.length ? (numbers ?? [asked.pins[0]]).map(number => asked.label ?? number % classes.length) : null;
}

let last = null; // the maps of the picture that was looked at last

const model = {
  ...facts,
  directions: directions.length,
  steps: null,
  async draw(asked, numbers) {
    return (await ask(latentsOf(asked, numbers), labelsOf(asked, numbers), false)).images;
  },
  async look(asked, y, x) {
    if (!facts.layers.length) return [];
    const numbers = asked.view === "walk" ? null : [asked.number], key = JSON.stringify(asked);
    if (last?.key !== key) last = { key, maps: (await ask(latentsOf(asked, numbers), labelsOf(asked, numbers), true)).maps };
    return facts.layers.map((layer, i) => {
      const query = queryAt(layer, facts, y, x), keys = layer.rows * layer.columns;
      const start = (query.y * layer.width + query.x) * keys, weights = last.maps[i].subarray(start, start + keys);
      const largest = weights.reduce((most, weight) => Math.max(most, weight), 0);
      return { ...layer, light: lightOf(layer, query, weights), largest, inside: null };
    });
  },
};

say("loading the runtime");
document.getElementById("square").hidden = facts.layers.every(layer => layer.radius < 0);
const shown = studio([model], bytes(facts.colours), say);
window.addEventListener("hashchange", shown.fromAddress);
