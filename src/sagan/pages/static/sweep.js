// The page of a sweep: its arms compared while their runs are under way; live.

import { plot, number } from "./plot.js";
import { ask, gridOf, onChange, ofRun, ofSweep, pageOf, sizeOf } from "./served.js";
import { again, saying } from "./status.js";

const element = id => document.getElementById(id), say = saying(element("status"));
const name = document.querySelector("main").dataset.name;
const figures = new Map();
let sweep = null, grids = new Map();

const load = again(async () => {
  sweep = await ask(ofSweep(name));
  show();
  await showSamples();
}, say);

function show() {
  const count = state => sweep.runs.filter(run => run.state === state).length;
  const states = [...new Set(sweep.runs.map(run => run.state))].map(state => `${count(state)} ${state}`);
  element("facts").textContent = `${sweep.runs.length} runs: ${states.join(", ")}. Arms: ${sweep.arms.join("; ")}.`;
  const sentences = [...sweep.groups.flatMap(group => group.findings), ...sweep.said];
  if (!sweep.groups.length) sentences.push("Nothing has been scored yet, so nothing can be said.");
  element("findings").replaceChildren(...sentences.map(text => Object.assign(document.createElement("li"), { textContent: text })));
  for (const group of sweep.groups) {
    const title = `${group.label}, ${group.samples.toLocaleString("en-US")} samples${group.label.includes("(") ? "" : `, ${group.extractor}`}: means of seeds, with 95 % intervals`;
    if (!figures.has(title)) figures.set(title, plot(element("curves"), title, name));
    const series = group.curves.map(({ arm, points }) => ({
      label: arm,
      x: points.map(point => point.step),
      y: points.map(point => point.value),
      spread: points.map(point => point.half),
      dots: true,
    }));
    const lines = group.floor === null ? [] : [{ y: group.floor, label: "half of the real images against the other half" }];
    const notes = ["Bars: the 95 % interval of each mean by itself, where two seeds or more are scored; a distance is never below 0."];
    figures.get(title).show({ series, lines, notes, xLabel: "step", yLabel: group.label, whole: true, least: 0 });
  }
  const table = sweep.groups[0]?.table ?? [], level = table[0]?.find(head => head.startsWith("interval "))?.slice(9);
  fill(element("table"), table);
  element("levels").textContent = level ? `The intervals in the sentences and the table are of differences, each at ${level.replace("%", " %")}, so that all hold together with 95 %. Those in the figure are of each mean by itself.` : "";
  fill(element("runs"), [["arm", ...sweep.seeds.map(seed => `seed ${seed}`)], ...sweep.arms.map(rowOf)]);
  const seed = element("seed").value;
  if (element("seed").children.length !== sweep.seeds.length) {
    element("seed").replaceChildren(...sweep.seeds.map(each => new Option(each, each)));
    if (seed) element("seed").value = seed;
  }
}

function rowOf(arm) {
  return [arm, ...sweep.seeds.map(seed => {
    const run = sweep.runs.find(each => each.arm === arm && each.seed === seed);
    if (!run) return "";
    const text = run.state === "running" ? `${number(run.step)} of ${number(run.total)}` : run.state;
    return run.begun ? Object.assign(document.createElement("a"), { href: pageOf("run", run.name), textContent: text }) : text;
  })];
}

function fill(table, rows) {
  table.replaceChildren(...rows.map((cells, i) => {
    const row = document.createElement("tr");
    for (const cell of cells) row.appendChild(document.createElement(i ? "td" : "th")).append(cell);
    return row;
  }));
}

// ---- samples: the first two rows of each arm's grid, at a step that all of them have

const STRIP = 2, PADDING = 2;

async function showSamples() {
  const runs = sweep.runs.filter(run => run.begun && run.seed === Number(element("seed").value));
  const found = await Promise.all(runs.map(run => ask(ofRun(run.name, "facts.json")).catch(() => null)));
  grids = new Map(runs.map((run, i) => [run, found[i]]).filter(([, about]) => about?.grids?.length));
  const steps = commonSteps();
  const slider = element("step"), atEnd = Number(slider.value) === Number(slider.max);
  slider.max = Math.max(0, steps.length - 1);
  if (atEnd) slider.value = slider.max;
  drawSamples();
}

function commonSteps() {
  const lists = [...grids.values()].map(about => about.grids);
  return lists.length ? lists[0].filter(step => lists.every(list => list.includes(step))) : [];
}

function drawSamples() {
  const steps = commonSteps(), step = steps[Number(element("step").value)];
  element("at").textContent = step === undefined ? "no step that all arms have" : `step ${number(step)}`;
  if (step === undefined) {
    element("samples").replaceChildren();
    return;
  }
  const figuresOf = [...grids.entries()].map(([run, about]) => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const image = new Image(), height = STRIP * (parseInt(sizeOf(about)) + PADDING) + PADDING;
    caption.textContent = run.arm;
    image.className = "pixels strip";
    image.alt = `samples of ${run.arm}, seed ${run.seed}, at step ${step}`;
    image.addEventListener("load", () => { image.style.aspectRatio = `${image.naturalWidth} / ${height}`; });
    image.src = gridOf(run.name, step, about.stamps[about.grids.indexOf(step)]);
    figure.append(caption, image);
    return figure;
  });
  element("samples").replaceChildren(...figuresOf);
}

element("step").addEventListener("input", drawSamples);
element("seed").addEventListener("input", () => showSamples().catch(error => say(error.message, true)));
say("reading the scores");
load();
onChange(names => { if (names === null || names.some(each => each === name || each.startsWith(`${name}/`))) load(); }, say);
