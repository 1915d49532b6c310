// The studio of `sagan serve`: one run, or two side by side, of which the server draws.

import { bytes } from "./attention.js";
import { api, ask, ofRun, onChange } from "./served.js";
import { again, saying } from "./status.js";
import { positionOf, stepOf, studio } from "./studio.js";

const element = id => document.getElementById(id), say = saying(element("status"));
const colours = bytes(JSON.parse(element("colours").textContent));
let shown = null, models = [], runs = [], opened = 0;
const unjudged = new Map(); // of models, why the discriminator is not asked

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
    unjudged.set(model, said);
    element("judged").textContent = [...new Set(models.map(each => unjudged.get(each)).filter(Boolean))].join("; ");
    return layers.map(layer => ({ ...layer, light: bytes(layer.light), inside: layer.radius < 0 ? null : layer.inside }));
  };
  return model;
}

async function open() {
  const run = element("run").value, other = element("other").value, turn = ++opened;
  close();
  const first = await modelOf(run, null), found = other ? [first, await modelOf(other, first)] : [first];
  const [one, two = one] = found;
  if (turn !== opened) return; // others were chosen meanwhile
  if (one.height !== two.height || one.width !== two.width || one.z_dim !== two.z_dim)
    throw new Error(`${run} and ${other} do not draw from the same latents`);
  if (one.classes.join("\n") !== two.classes.join("\n")) throw new Error(`${run} and ${other} have other classes`);
  models = found;
  shown = studio(models, colours, say, () => ({ run, ...(other && { other }), ...(element("judge").checked && { judge: 1 }) }));
}

function close() {
  shown?.close();
  shown = null;
  element("judged").textContent = "";
}

// Fills the lists of runs, and leaves what was chosen in them, also where it is gone.
async function list() {
  const names = (await ask(api("runs.json"))).filter(run => run.snapshots).map(run => run.name);
  if (names.join("\n") === runs.join("\n")) return;
  runs = names;
  for (const [id, none] of [["run", []], ["other", [""]]]) {
    const { value } = element(id), gone = value && !runs.includes(value) ? [value] : [];
    element(id).replaceChildren(...[...none, ...runs, ...gone].map(name => new Option(name || "none", name)));
    element(id).value = value;
  }
}

// Shows what the address says; without a run in it, the one that is shown, or else the one written to last.
async function fromAddress() {
  if (!runs.length) throw new Error("no run here has a snapshot yet; the first one appears by itself");
  const words = new URLSearchParams(location.hash.slice(1)), before = [element("run").value, element("other").value];
  const run = words.get("run") ?? (before[0] || runs[0]), other = words.get("other") ?? "";
  const missing = [run, other].filter(name => name && !runs.includes(name));
  element("judge").checked = words.has("judge");
  if (shown && run === before[0] && other === before[1]) {
    shown.fromAddress();
    return;
  }
  element("run").value = missing.length ? "" : run;
  element("other").value = missing.length ? "" : other;
  if (!missing.length) return open();
  opened++;
  close();
  throw new Error(`${missing.join(" and ")} cannot be drawn from: it is not here, or has no snapshot yet; choose another run`);
}

// Follows what comes, goes and is made anew: runs, and the snapshots of those that are shown.
const follow = again(async () => {
  await list();
  if (shown === null) return element("run").value ? open() : fromAddress();
  const now = await Promise.all(models.map(async model => (await ask(ofRun(model.name, "facts.json"))).snapshots ?? []));
  const empty = models.find((_, i) => !now[i].length);
  if (empty) throw new Error(`${empty.name} has no snapshot any more; the last picture stays`);
  shown?.follow(now);
}, say);

function saidIfWrong(work) {
  return () => work().catch(error => say(error.message, true));
}

for (const id of ["run", "other"]) element(id).addEventListener("change", saidIfWrong(open));
element("judge").addEventListener("change", () => {
  element("judged").textContent = "";
  shown?.redraw();
});
window.addEventListener("hashchange", saidIfWrong(fromAddress));
say("reading the runs");
follow();
onChange(names => {
  if (names === null || shown === null || models.some(({ name }) => names.includes(name))) follow();
  else saidIfWrong(list)();
}, say);
