// The list of runs and sweeps: filter, sort, choose two runs; new ones appear by themselves.

import { LIVE, api, ask, gridOf, onChange, pageOf, studioOf, sizeOf } from "./served.js";
import { again, saying } from "./status.js";
import { number } from "./plot.js";

const element = id => document.getElementById(id), say = saying(element("status"));
const chosen = new Set();
let runs = [];

const load = again(async () => {
  runs = await ask(api("runs.json"));
  show();
}, say);

const ORDERS = {
  newest: (a, b) => b.changed - a.changed,
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  score: byCard,
  step: (a, b) => (b.step ?? -1) - (a.step ?? -1),
};

// Scores are compared within equal cards: those of the most common card come first, runs without a score last.
function byCard(a, b) {
  const one = a.score?.card, other = b.score?.card, having = card => runs.filter(run => run.score?.card === card).length;
  if (one === other) return (a.score?.value ?? 0) - (b.score?.value ?? 0);
  if (!one || !other) return one ? -1 : 1;
  return having(other) - having(one) || (one < other ? -1 : 1);
}

function measuredAs({ samples, reference, extractor }) {
  return `by ${extractor}: ${samples.toLocaleString("en-US")} samples against ${reference}`;
}

function heading(score) {
  return Object.assign(document.createElement("h2"), { className: "group", textContent: score ? `${score.label}, ${measuredAs(score)}` : "Without a score" });
}

function words(run) {
  const more = run.kind === "sweep" ? "sweep" : `run span ${run.span} ${run.images} ${sizeOf(run)}`;
  return `${run.name} ${run.state} ${more}`.toLowerCase();
}

// Whether a text has all words; "span 3" is one.
function has(text, wanted) {
  const parts = wanted.toLowerCase().match(/span \S+|\S+/g) ?? [];
  return parts.every(part => part.startsWith("span ") ? `${text} `.includes(`${part} `) : text.includes(part));
}

function show() {
  const order = element("order").value, shown = runs.filter(run => has(words(run), element("filter").value)).sort(ORDERS[order]);
  const known = new Map([...document.querySelectorAll("#runs .card")].map(card => [card.dataset.name, card]));
  element("runs").replaceChildren(...shown.flatMap((run, i) => {
    const card = filled(known.get(run.name) ?? newCard(run.name), run), alike = i > 0 && shown[i - 1].score?.card === run.score?.card;
    return order !== "score" || alike ? [card] : [heading(run.score), card];
  }));
  const nothing = "There is no run in this folder yet; one that is begun appears by itself.";
  element("count").textContent = runs.length ? `${shown.length} of ${runs.length} shown` : nothing;
  element("sorted").hidden = order !== "score";
  for (const name of chosen) if (!runs.some(run => run.name === name)) chosen.delete(name);
  const [one, other] = chosen;
  element("compare").hidden = chosen.size !== 2;
  if (chosen.size === 2) element("compare").href = studioOf(one, other);
  element("second").hidden = chosen.size !== 1;
}

function newCard(name) {
  const card = element("card").content.firstElementChild.cloneNode(true);
  card.dataset.name = name;
  const box = card.querySelector("input");
  box.addEventListener("change", () => {
    if (box.checked) chosen.add(name);
    else chosen.delete(name);
    if (chosen.size > 2) { // the one chosen first goes
      const [first] = chosen;
      chosen.delete(first);
    }
    for (const each of document.querySelectorAll("#runs .card")) each.querySelector("input").checked = chosen.has(each.dataset.name);
    show();
  });
  return card;
}

function filled(card, run) {
  const part = name => card.querySelector(`.${name}`);
  part("name").textContent = run.name;
  part("name").href = pageOf(run.kind, run.name);
  part("sweep").hidden = !run.sweep;
  if (run.sweep) part("sweep").href = pageOf("sweep", run.sweep);
  part("state").textContent = run.state;
  part("state").className = `state is-${run.state}`;
  card.querySelector("label").hidden = !LIVE || !run.snapshots;
  card.querySelector("input").setAttribute("aria-label", `compare ${run.name}`);
  const image = card.querySelector("img"), grid = run.kind === "sweep" ? run.grid : run.grid !== null && run.grid !== undefined ? { run: run.name, step: run.grid, stamp: run.stamp } : null;
  const source = grid ? gridOf(grid.run, grid.step, grid.stamp) : "";
  image.hidden = !grid;
  if (grid && image.getAttribute("src") !== source) image.src = source;
  image.alt = grid ? `samples of ${grid.run} at step ${grid.step}` : "";
  if (run.kind === "sweep") {
    part("facts").textContent = `sweep · ${run.said}`;
    return card;
  }
  if (run.state === "damaged") {
    part("facts").textContent = run.said;
    return card;
  }
  const steps = run.total === null ? number(run.step) : `${number(run.step)} of ${number(run.total)}`;
  const facts = [`step ${steps}`];
  if (run.speed) facts.push(`${number(run.speed)} img/s`);
  if (run.left) facts.push(`${run.left} left`);
  facts.push(`span ${run.span}${run.masking === "before" ? ", before the softmax" : ""}`, `${run.images} ${sizeOf(run)}`);
  part("facts").textContent = facts.join(" · ");
  const score = run.score;
  part("score").textContent = score ? `best ${score.label} ${number(score.value)} at step ${number(score.step)}` : "";
  const floor = score?.floor == null ? "" : `; half of the real images against the other half: ${number(score.floor)}`;
  part("floor").textContent = score ? measuredAs(score) + floor : "";
  part("why").textContent = ["done", "running", "waiting"].includes(run.state) && !run.said.includes("; ") ? "" : run.said;
  part("why").classList.toggle("wrong", ["failed", "collapsed"].includes(run.state));
  return card;
}

for (const id of ["filter", "order"]) element(id).addEventListener("input", show);
say("reading the runs");
load();
onChange(load, say);
