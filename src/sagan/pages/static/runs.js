// The list of runs: filter, sort, choose two; new ones appear by themselves.

import { LIVE, api, ask, onChange, ofRun, pageOf, studioOf } from "./served.js";
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
  score: (a, b) => (a.score?.value ?? Infinity) - (b.score?.value ?? Infinity),
  step: (a, b) => (b.step ?? -1) - (a.step ?? -1),
};

function show() {
  const wanted = element("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = run => `${run.name} ${run.state} span ${run.span} ${run.images} ${run.size}`.toLowerCase();
  const shown = runs.filter(run => wanted.every(word => text(run).includes(word))).sort(ORDERS[element("order").value]);
  const known = new Map([...element("runs").children].map(card => [card.dataset.name, card]));
  element("runs").replaceChildren(...shown.map(run => filled(known.get(run.name) ?? newCard(run.name), run)));
  element("count").textContent = `${shown.length} of ${runs.length} runs`;
  for (const name of chosen) if (!runs.some(run => run.name === name)) chosen.delete(name);
  const [one, other] = chosen;
  element("compare").hidden = chosen.size !== 2;
  if (chosen.size === 2) element("compare").href = studioOf(one, other);
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
  part("name").href = pageOf("run", run.name);
  part("sweep").hidden = !run.sweep;
  if (run.sweep) part("sweep").href = pageOf("sweep", run.sweep);
  part("state").textContent = run.state;
  part("state").title = run.said;
  part("state").className = `state is-${run.state}`;
  card.querySelector("label").hidden = !LIVE;
  card.querySelector("input").setAttribute("aria-label", `compare ${run.name}`);
  const image = card.querySelector("img");
  image.hidden = run.grid === null;
  const source = run.grid === null ? "" : ofRun(run.name, `grid/${run.grid}.png`);
  if (run.grid !== null && image.getAttribute("src") !== source) image.src = source;
  image.alt = run.grid === null ? "" : `samples of ${run.name} at step ${run.grid}`;
  if (run.state === "damaged") {
    part("facts").textContent = run.said;
    return card;
  }
  const steps = run.total === null ? number(run.step) : `${number(run.step)} of ${number(run.total)}`;
  const facts = [`step ${steps}`];
  if (run.speed) facts.push(`${number(run.speed)} img/s`);
  if (run.left) facts.push(`${run.left} left`);
  facts.push(`span ${run.span}${run.masking === "before" ? ", before the softmax" : ""}`, `${run.images} ${run.size}x${run.size}`);
  part("facts").textContent = facts.join(" · ");
  const score = run.score;
  part("score").textContent = score ? `${score.label} ${number(score.value)} at step ${number(score.step)}` : "";
  const floor = score?.floor == null ? "" : `; half of the real images against the other: ${number(score.floor)}`;
  part("score").title = score ? `${score.samples.toLocaleString("en-US")} samples${floor}` : "";
  part("why").textContent = ["failed", "collapsed"].includes(run.state) ? run.said : "";
  return card;
}

for (const id of ["filter", "order"]) element(id).addEventListener("input", show);
load();
onChange(load, say);
