// The page of one run: its samples over the steps, its curves, its settings and commands; live.

import { plot, number } from "./plot.js";
import { LIVE, ask, gridOf, onChange, ofRun, studioOf, sizeOf } from "./served.js";
import { again, saying } from "./status.js";

const element = id => document.getElementById(id), say = saying(element("status"));
const name = document.querySelector("main").dataset.name;
let run = null, curves = null, playing = false;

const load = again(async () => {
  [run, curves] = await Promise.all([ask(ofRun(name, "facts.json")), ask(ofRun(name, "curves.json"))]);
  show();
  if (!curves.whole) {
    say("a sample of the records is shown while all of them are read");
    curves = await ask(`${ofRun(name, "curves.json")}?whole`);
    show();
  }
}, say);

function show() {
  element("state").textContent = run.state;
  element("state").className = `state is-${run.state}`;
  element("said").textContent = run.said;
  if (run.state === "damaged") return;
  const steps = run.total === null ? number(run.step) : `${number(run.step)} of ${number(run.total)}`;
  const facts = [`step ${steps}`];
  if (run.speed) facts.push(`${number(run.speed)} img/s`);
  if (run.left) facts.push(`${run.left} left`);
  element("facts").textContent = [...facts, `span ${run.span}`, `${run.images} ${sizeOf(run)}`].join(" · ");
  element("studio").hidden = !(LIVE ? run.snapshots.length : run.drawing);
  element("studio").href = LIVE ? studioOf(name) : run.drawing ?? "";
  element("no-studio").hidden = !LIVE || run.snapshots.length > 0;
  showGrids();
  showSettings();
  showCurves();
}

// ---- samples

function showGrids() {
  const slider = element("step"), last = Number(slider.max), atEnd = Number(slider.value) === last;
  element("samples").hidden = !run.grids.length;
  if (!run.grids.length) return;
  slider.max = run.grids.length - 1;
  if (atEnd && !playing) slider.value = slider.max;
  showGrid();
}

function showGrid() {
  const chosen = Number(element("step").value), step = run.grids[chosen], image = element("grid");
  const source = gridOf(name, step, run.stamps[chosen]);
  if (image.getAttribute("src") !== source) image.src = source;
  image.alt = `64 samples at step ${step}`;
  element("at").textContent = `step ${number(step)}`;
}

function play() {
  playing = !playing;
  element("play").textContent = playing ? "Stop" : "Play";
  element("play").setAttribute("aria-pressed", String(playing));
  if (playing) next();
}

function next() {
  if (!playing) return;
  const slider = element("step");
  slider.value = (Number(slider.value) + 1) % run.grids.length;
  showGrid();
  const image = element("grid"), wait = () => setTimeout(next, 400);
  if (image.complete) wait();
  else image.addEventListener("load", wait, { once: true });
}

// ---- curves

const GROUPS = [
  ["Losses", "loss", { "D loss": "d_loss", "G loss": "g_loss" }],
  ["Logits of D", "logit", { "real images": "d_real", "drawn images": "d_fake" }],
  ["Gradient norms", "norm", { D: "d_grad_norm", G: "g_grad_norm" }],
  ["Penalties", "penalty", { "gradient penalty": "penalty", LeCam: "lecam" }],
  ["Speed", "images per second", { "images per second": "images_per_second" }],
];
const CLOCKS = {
  step: { label: "step", of: row => row.step, whole: true },
  images: { label: "images", of: row => row.images, whole: true },
  hours: { label: "hours of training", of: row => row.seconds === undefined ? undefined : row.seconds / 3600 },
};
const LEAST = { frechet: 0, inception_score: 1, precision: 0, recall: 0, density: 0, coverage: 0, nearest_distance: 0 };
const figures = new Map();

function figure(title) {
  if (!figures.has(title)) figures.set(title, plot(element("curves"), title, name));
  return figures.get(title);
}

function showCurves() {
  const clock = CLOCKS[element("clock").value], { train, scores, marks } = curves;
  const x = (train.step ?? []).map((step, i) => clock.of({ step, images: train.images[i], seconds: train.seconds[i] }));
  const atStep = step => { // of a mark, by the nearest record
    const i = (train.step ?? []).findIndex(each => each >= step);
    return i < 0 ? x.at(-1) ?? step : x[i];
  };
  const common = { log: element("log").checked, xLabel: clock.label, whole: clock.whole, marks: marks.map(mark => ({ ...mark, x: atStep(mark.step) })) };
  for (const each of scores) {
    const known = each.points.filter(point => clock.of(point) !== undefined);
    const series = { label: each.label, x: known.map(clock.of), y: known.map(point => point.value), spread: known.map(point => point.spread), dots: true };
    const lines = each.floor === null ? [] : [{ y: each.floor, label: "half of the real images against the other half" }];
    const title = `${each.label}, ${each.samples.toLocaleString("en-US")} samples${each.label.includes("(") ? "" : `, ${each.extractor}`}`;
    const notes = series.spread.some(Boolean) ? ["Bars: the standard deviation over draws, or of one draw the score's own standard error, to both sides."] : [];
    figure(title).show({ ...common, series: [series], lines, notes, yLabel: each.label, least: LEAST[each.metric] });
  }
  const notes = [];
  if (curves.each > 1) notes.push(`Each point is the mean of ${number(curves.each)} records; the band reaches from the least to the largest.`);
  if (curves.damaged) notes.push(`${number(curves.damaged)} damaged records are left out.`);
  element("records").textContent = notes.join(" ");
  const training = { ...common, notes, smooth: Number(element("smooth").value) };
  const seriesOf = (label, key) => ({ label, x, y: train[key], low: curves.low?.[key], high: curves.high?.[key] });
  for (const [title, yLabel, names] of GROUPS) {
    const series = Object.entries(names).filter(([, key]) => train[key]).map(([label, key]) => seriesOf(label, key));
    if (series.length) figure(title).show({ ...training, series, yLabel });
  }
  const gates = Object.keys(train).filter(key => key.startsWith("gamma "));
  if (gates.length) figure("Gates of the attention layers (gamma)").show({ ...training, series: gates.map(key => seriesOf(key.slice(6), key)), yLabel: "gamma" });
}

// ---- settings

function showSettings() {
  const count = run.settings.length;
  element("preset").textContent = count ? `Preset ${run.preset}, with other values of:` : `Preset ${run.preset}, unchanged.`;
  element("settings").hidden = !count;
  const rows = [["setting", "this run", "preset"], ...run.settings.map(({ name, value, usual }) => [name, value, usual])];
  element("settings").replaceChildren(...rows.map((cells, i) => {
    const row = document.createElement("tr");
    row.append(...cells.map(text => Object.assign(document.createElement(i ? "td" : "th"), { textContent: text })));
    return row;
  }));
  for (const [id, words] of [["anew", run.commands["the run anew"]], ["resume", run.commands["go on with it"]]])
    if (element(id).textContent !== words) element(id).textContent = words;
}

element("step").addEventListener("input", showGrid);
element("play").addEventListener("click", play);
for (const id of ["clock", "log", "smooth"]) element(id).addEventListener("input", () => curves && showCurves());
load();
onChange(names => { if (names === null || names.includes(name)) load(); }, say);
