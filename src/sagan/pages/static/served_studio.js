// The studio of `sagan serve`: one run, or two side by side, of which the server draws.

import { bytes } from "./attention.js";
import { api, ask, ofRun, onChange } from "./served.js";
import { saying } from "./status.js";
import { positionOf, stepOf, studio } from "./studio.js";

const element = id => document.getElementById(id), say = saying(element("status"));
const colours = bytes(JSON.parse(element("colours").textContent));
let shown = null, runs = [];

async function modelOf(name, first) {
  const [facts, run] = await Promise.all([ask(ofRun(name, "model.json")), ask(ofRun(name, "facts.json"))]);
  const model = { ...facts, place: name, steps: run.snapshots };
  const request = (asked, more) => ({
    run: name,
    step: stepOf(model, asked),
    ask: { seed: asked.seed, truncation: asked.truncation, along: asked.along, label: labelOf(asked), ...more },
  });
  const labelOf = asked => { // classes have the numbers of the first run
    const named = asked.label === null ? null : (first ?? model).classes[asked.label];
    return named === null ? null : Math.max(0, model.classes.indexOf(named));
  };
  const where = (asked, numbers) => numbers
    ? { number: numbers[0], count: numbers.length }
    : { pins: asked.pins, at: positionOf(asked) };
  const realOf = asked => asked.view === "real" ? asked.number % model.real : null;
  model.draw = (asked, numbers, signal) => asked.view === "real"
    ? ask(api("real"), { body: { run: name, number: realOf(asked) }, bytes: true, signal })
    : ask(api("draw"), { body: request(asked, where(asked, numbers)), bytes: true, signal });
  model.look = async (asked, y, x, signal) => {
    const draw = request(asked, where(asked, asked.view === "walk" ? null : [asked.number]));
    const body = { draw, y, x, judge: element("judge").checked, real: realOf(asked) };
    const layers = await ask(api("look"), { body, signal });
    return layers.map(layer => ({ ...layer, light: bytes(layer.light), inside: layer.radius < 0 ? null : layer.inside }));
  };
  return model;
}

async function open() {
  const run = element("run").value, other = element("other").value;
  shown?.close();
  shown = null;
  try {
    const first = await modelOf(run, null), models = other ? [first, await modelOf(other, first)] : [first];
    const [one, two = one] = models;
    if (one.height !== two.height || one.width !== two.width || one.z_dim !== two.z_dim)
      throw new Error(`${run} and ${other} do not draw from the same latents`);
    shown = studio(models, colours, say, () => other ? { run, other } : { run });
  } catch (error) {
    say(error.message, true);
  }
}

async function start() {
  runs = (await ask(api("runs.json"))).filter(run => run.snapshots).map(run => run.name);
  if (!runs.length) {
    say("no run here has a snapshot yet", true);
    return;
  }
  const words = new URLSearchParams(location.hash.slice(1));
  element("run").replaceChildren(...runs.map(name => new Option(name, name)));
  element("other").replaceChildren(new Option("none", ""), ...runs.map(name => new Option(name, name)));
  if (runs.includes(words.get("run"))) element("run").value = words.get("run");
  if (runs.includes(words.get("other"))) element("other").value = words.get("other");
  for (const id of ["run", "other"]) element(id).onchange = open;
  element("judge").onchange = () => shown?.redraw();
  await open();
}

start().catch(error => say(error.message, true));
onChange(async names => {
  if (names !== null && !names.includes(element("run").value)) return;
  if (names === null || shown === null) await start().catch(error => say(error.message, true));
}, say);
