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
  const model = { ...facts, name, steps: run.snapshots };
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
    const { layers, said } = await ask(api("look"), { body, signal });
    element("judged").textContent = said;
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
    if (one.classes.join("\n") !== two.classes.join("\n")) throw new Error(`${run} and ${other} have other classes`);
    shown = studio(models, colours, say, () => ({ run, ...(other && { other }), ...(element("judge").checked && { judge: 1 }) }));
    shown.models = models;
  } catch (error) {
    say(error.message, true);
  }
}

async function start() {
  runs = (await ask(api("runs.json"))).filter(run => run.snapshots).map(run => run.name);
  if (!runs.length) {
    say("no run here has a snapshot yet; the first one appears by itself", true);
    return;
  }
  for (const [id, names] of [["run", runs], ["other", ["", ...runs]]]) {
    const before = element(id).value;
    element(id).replaceChildren(...names.map(name => new Option(name || "none", name)));
    if (names.includes(before)) element(id).value = before;
  }
  chosen();
  await open();
}

// Takes the runs from the address; says whether they are others than those shown.
function chosen() {
  const words = new URLSearchParams(location.hash.slice(1)), before = [element("run").value, element("other").value];
  const missing = ["run", "other"].map(id => words.get(id)).filter(name => name && !runs.includes(name));
  if (missing.length) say(`${missing.join(" and ")} cannot be drawn from: it is not here, or has no snapshot yet`, true);
  if (runs.includes(words.get("run"))) element("run").value = words.get("run");
  if (words.has("run")) element("other").value = runs.includes(words.get("other")) ? words.get("other") : "";
  if (words.has("judge")) element("judge").checked = true;
  return before.join("\n") !== [element("run").value, element("other").value].join("\n");
}

// Follows the snapshots of the runs that are shown.
async function follow(names) {
  if (shown === null) return start();
  for (const model of shown.models) {
    if (names !== null && !names.includes(model.name)) continue;
    const { snapshots } = await ask(ofRun(model.name, "facts.json"));
    if (!snapshots.length) throw new Error(`${model.name} has no snapshot any more`);
    if (String(snapshots) === String(model.steps)) continue;
    model.steps = snapshots;
    shown.show();
    await shown.redraw();
  }
}

for (const id of ["run", "other"]) element(id).addEventListener("change", open);
element("judge").addEventListener("change", () => {
  element("judged").textContent = "";
  shown?.show();
  shown?.redraw();
});
window.addEventListener("hashchange", () => { if (chosen()) open(); });
say("reading the runs");
start().then(() => { if (shown) say(""); }).catch(error => say(error.message, true));
onChange(names => follow(names).catch(error => say(error.message, true)), say);
