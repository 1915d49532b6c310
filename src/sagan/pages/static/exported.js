// The page of one exported generator: what is asked for (`asked`, also in the address), its picture, and where it looks.

import * as looks from "./attention.js";
import { numberedLatent, slerp } from "./latents.js";

const FRAMES = 24; // from one picture of a walk to the next, as of `sagan walk`
const LEAST = 0.1, NONE = 3.1; // the ends of the slider of truncations; the last one truncates nothing
const REACH = 3; // along a direction
const PADDING = 2, AT_ONCE = 8; // of a grid; pictures that are drawn together
const LARGEST = { seed: Number.MAX_SAFE_INTEGER, number: 9999999, stops: 64, rows: 12, columns: 12 };
const element = id => document.getElementById(id), main = document.querySelector("main");

const model = await fetch("model.json").then(answer => answer.json());
const size = { height: model.height, width: model.width };
const colours = looks.bytes(model.colours);
const directions = model.directions.map(looks.floats);

const asked = {
  view: "picture", seed: 0, number: 0, label: null, truncation: null, at: 0, stops: 8, rows: 4, columns: 4,
  along: directions.map(() => 0),
};
const point = { y: size.height >> 1, x: size.width >> 1, shown: false, held: false };
let shown = null; // what was drawn last: {pixels, maps}

// ---- the model

const worker = new Worker("worker.js", { type: "module" });
const waiting = new Map();
let questions = 0;

worker.onmessage = ({ data }) => {
  if (data.loaded) {
    say(`loading the model: ${megabytes(data.loaded)} of ${megabytes(model.bytes)}`);
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
  const z = new Float32Array(latents.length * model.z_dim), id = questions++;
  latents.forEach((latent, i) => z.set(latent, i * model.z_dim));
  worker.postMessage({ id, z, count: latents.length, labels, attention }, [z.buffer]);
  return new Promise((done, failed) => waiting.set(id, { done, failed }));
}

function megabytes(count) {
  return `${(count / 1e6).toFixed(1)} MB`;
}

function say(text, wrong = false) {
  element("status").textContent = text;
  element("status").classList.toggle("wrong", wrong);
}

// ---- latents

function moved(z) {
  return z.map((value, i) => asked.along.reduce((sum, amount, k) => sum + amount * directions[k][i], value));
}

function latentOf(number) {
  return numberedLatent(asked.seed, number, model.z_dim, asked.truncation);
}

function classOf(number) {
  return asked.label ?? number % model.classes.length;
}

function labelsOf(numbers) {
  return model.classes.length ? numbers.map(classOf) : null;
}

// A walk goes through the pictures 0 to stops - 1 and back; all are of one class.
const stopsOf = remembered(() => Array.from({ length: asked.stops }, (_, i) => latentOf(i)),
  () => `${asked.seed} ${asked.stops} ${asked.truncation}`);

function walked() {
  const stops = stopsOf(), start = Math.floor(asked.at / FRAMES);
  return slerp(stops[start], stops[(start + 1) % stops.length], asked.at % FRAMES / FRAMES);
}

function remembered(compute, key) {
  let known, value;
  return () => {
    if (key() !== known) [known, value] = [key(), compute()];
    return value;
  };
}

// ---- drawing, one after another; what is asked for meanwhile is drawn next

let due = false, drawing = false;

async function draw() {
  due = true;
  if (drawing) return;
  drawing = true;
  main.setAttribute("aria-busy", "true");
  try {
    while (due) {
      due = false;
      await (asked.view === "grid" ? drawGrid() : drawPicture());
      say("");
      if (playing && asked.view === "walk") await step();
    }
  } catch (error) {
    say(`nothing is drawn: ${error.message}`, true);
  } finally {
    drawing = false;
    main.setAttribute("aria-busy", "false");
  }
}

async function drawPicture() {
  const walk = asked.view === "walk", z = walk ? walked() : latentOf(asked.number);
  const { images, maps } = await ask([moved(z)], labelsOf([walk ? 0 : asked.number]), point.shown);
  shown = { pixels: images, maps };
  element("caption").textContent = caption();
  paint();
}

async function drawGrid() {
  const sheet = element("sheet"), count = asked.rows * asked.columns, { first } = gridOf(asked);
  sheet.width = asked.columns * (size.width + PADDING) + PADDING;
  sheet.height = asked.rows * (size.height + PADDING) + PADDING;
  const context = sheet.getContext("2d");
  context.fillRect(0, 0, sheet.width, sheet.height);
  for (let done = 0; done < count && !due; done += AT_ONCE) {
    const numbers = Array.from({ length: Math.min(AT_ONCE, count - done) }, (_, i) => first + done + i);
    const { images } = await ask(numbers.map(number => moved(latentOf(number))), labelsOf(numbers), false);
    const each = images.length / numbers.length;
    numbers.forEach((_, i) => {
      const { top, left } = placeOf(done + i);
      context.drawImage(looks.picture(images.subarray(i * each, (i + 1) * each), size), left, top);
    });
    say(`drawn ${Math.min(done + AT_ONCE, count)} of ${count}`);
  }
}

function gridOf({ number, rows, columns }) {
  const count = rows * columns;
  return { first: Math.floor(number / count) * count, count };
}

function placeOf(index) {
  const row = Math.floor(index / asked.columns), column = index % asked.columns;
  return { top: PADDING + row * (size.height + PADDING), left: PADDING + column * (size.width + PADDING) };
}

function caption() {
  if (asked.view === "walk") return `frame ${asked.at} of ${asked.stops * FRAMES}`;
  const of = model.classes.length ? `, class ${model.classes[classOf(asked.number)]}` : "";
  return `seed ${asked.seed}, picture ${asked.number}${of}`;
}

// ---- where it looks

const panels = model.layers.map(layer => {
  const figure = document.createElement("figure"), title = document.createElement("figcaption");
  const canvas = document.createElement("canvas"), below = document.createElement("div");
  title.textContent = `${layer.name}, ${layer.label}, gamma ${layer.gamma.toFixed(2)}`;
  below.className = "said";
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", `where the layer at ${layer.name} looks`);
  figure.append(title, canvas, below);
  element("panels").append(figure);
  return { layer, canvas, below };
});

function paint() {
  if (!shown) return;
  const context = element("picture").getContext("2d");
  looks.lay(context, looks.picture(shown.pixels, size));
  const queried = point.shown && shown.maps.length;
  if (point.shown) looks.ring(context, size, point.y, point.x);
  element("pixel").textContent = point.shown ? `row ${point.y}, column ${point.x}${point.held ? ", held" : ""}` : "";
  panels.forEach(({ layer, canvas, below }, i) => {
    const light = canvas.getContext("2d");
    if (!queried) {
      looks.lay(light, looks.dimmed(shown.pixels, size));
      below.textContent = "point at the picture";
      return;
    }
    const query = looks.queryAt(layer, size, point.y, point.x), keys = layer.rows * layer.columns;
    const start = (query.y * layer.width + query.x) * keys, weights = shown.maps[i].subarray(start, start + keys);
    const largest = weights.reduce((most, weight) => Math.max(most, weight), 0);
    looks.drawLook(light, layer, query, shown.pixels, size, looks.lightOf(layer, query, weights), colours);
    below.textContent = looks.said(layer, query, largest);
  });
}

function lookFrom(y, x, held = point.held) {
  Object.assign(point, { y, x, held, shown: true });
  if (shown && !shown.maps.length && model.layers.length) draw();
  paint();
}

function letGo() {
  Object.assign(point, { shown: false, held: false });
  paint();
}

for (const canvas of [element("picture"), ...panels.map(panel => panel.canvas)]) {
  looks.fit(canvas, size);
  canvas.addEventListener("pointermove", event => {
    if (!point.held) lookFrom(...looks.pixelUnder(event, canvas, size));
  });
  canvas.addEventListener("pointerdown", event => {
    lookFrom(...looks.pixelUnder(event, canvas, size), event.pointerType !== "mouse" || !point.held);
  });
  canvas.addEventListener("pointerleave", event => { if (!point.held && event.pointerType === "mouse") letGo(); });
}

element("picture").addEventListener("keydown", event => {
  const stride = Math.max(1, Math.min(...model.layers.map(layer => size.height / layer.height)));
  const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
  if (event.key === "Escape") letGo();
  if (!way) return;
  event.preventDefault();
  const y = looks.clamp(point.y + way[0] * stride, 0, size.height - 1);
  lookFrom(y, looks.clamp(point.x + way[1] * stride, 0, size.width - 1), true);
});

// ---- what is asked for: in the controls, in the address

let playing = false, lastFrame = 0;

function change(values) {
  Object.assign(asked, values);
  asked.at = asked.at % (asked.stops * FRAMES);
  show();
  draw();
}

function show() {
  for (const name of ["seed", "number", "stops", "rows", "columns", "at"]) element(name).value = asked[name];
  element("at").max = asked.stops * FRAMES - 1;
  element("label").value = asked.label ?? "";
  element("truncation").value = asked.truncation ?? NONE;
  element("truncated").textContent = asked.truncation === null ? "none" : asked.truncation.toFixed(1);
  asked.along.forEach((amount, i) => {
    element(`along${i}`).value = amount;
    element(`amount${i}`).textContent = amount.toFixed(1);
  });
  const grid = asked.view === "grid", walk = asked.view === "walk";
  for (const button of document.querySelectorAll("[data-view]"))
    button.setAttribute("aria-pressed", String(button.dataset.view === asked.view));
  element("panels").hidden = grid;
  element("looking").hidden = grid || !model.layers.length;
  element("sheet").hidden = !grid;
  document.querySelector(".walking").hidden = !walk;
  document.querySelector(".arranging").hidden = !grid;
  element("number").disabled = element("next").disabled = walk;
  element("play").textContent = playing ? "Stop" : "Play";
  element("play").setAttribute("aria-pressed", String(playing));
  element("picture").setAttribute("aria-label", caption());
  const words = command();
  element("command").hidden = !words;
  element("words").textContent = words;
  const here = address();
  element("link").href = `#${here}`;
  if (!playing) history.replaceState(null, "", here ? `#${here}` : location.pathname + location.search);
}

// What differs from the page as it opens, such as "seed=3&along=0,1.5".
function address() {
  const words = new URLSearchParams();
  for (const [name, start] of Object.entries(START))
    if (String(asked[name]) !== String(start)) words.set(name, String(asked[name]));
  return words.toString().replaceAll("%2C", ",");
}

function fromAddress() {
  const words = new URLSearchParams(location.hash.slice(1)), values = structuredClone(START);
  for (const name of ["seed", "number", "stops", "rows", "columns"])
    if (words.has(name)) values[name] = whole(words.get(name), name, START[name]);
  values.at = whole(words.get("at"), "at", 0, values.stops * FRAMES - 1);
  if (["walk", "grid"].includes(words.get("view"))) values.view = words.get("view");
  if (words.has("label")) values.label = whole(words.get("label"), "label", null, model.classes.length - 1);
  if (words.has("truncation")) values.truncation = truncationOf(words.get("truncation"));
  (words.get("along") ?? "").split(",").slice(0, directions.length).forEach((text, i) => {
    values.along[i] = looks.clamp(Number(text) || 0, -REACH, REACH);
  });
  change(values);
}

function whole(text, name, otherwise, most = LARGEST[name]) {
  const least = { stops: 2, rows: 1, columns: 1 }[name] ?? 0;
  return text !== null && /^\d+$/.test(text) && most >= least ? looks.clamp(Number(text), least, most) : otherwise;
}

function truncationOf(text) {
  const value = Number(text);
  return value >= LEAST - 1e-9 && value < NONE - 1e-9 ? value : null;
}

// The command that draws the same; directions have none.
function command() {
  if (asked.along.some(amount => amount)) return "";
  const options = [`--seed ${asked.seed}`];
  if (asked.truncation !== null) options.push(`--truncation ${asked.truncation}`);
  if (asked.label !== null) options.push(`--label '${model.classes[asked.label].replaceAll("'", "'\\''")}'`);
  const many = options.join(" ");
  if (asked.view === "walk") return `sagan walk ${model.place} ${many} --seeds ${asked.stops} --out walk.webp`;
  const { first, count } = gridOf(asked);
  if (asked.view === "grid" && !first)
    return `sagan sample ${model.place} ${many} --grid ${asked.rows} ${asked.columns} --out grid.png`;
  const num = asked.view === "grid" ? first + count : asked.number + 1;
  return `sagan sample ${model.place} ${many} --num ${num} --out pictures`;
}

function addControls() {
  for (const name of ["seed", "number", "stops", "rows", "columns"])
    element(name).addEventListener("change", event => {
      change({ [name]: whole(event.target.value, name, asked[name]) });
    });
  element("at").addEventListener("input", event => change({ at: Number(event.target.value) }));
  element("truncation").addEventListener("input", event => change({ truncation: truncationOf(event.target.value) }));
  element("classes").hidden = !model.classes.length;
  for (const [value, text] of [["", "in turn"], ...model.classes.map((name, i) => [String(i), name])]) {
    const option = element("label").appendChild(document.createElement("option"));
    option.value = value;
    option.textContent = text;
  }
  element("label").addEventListener("change", event => {
    change({ label: event.target.value === "" ? null : Number(event.target.value) });
  });
  directions.forEach((_, i) => {
    const field = document.createElement("div"), label = document.createElement("label");
    const slider = document.createElement("input"), amount = document.createElement("output");
    field.className = "field";
    label.textContent = String(i);
    label.htmlFor = slider.id = `along${i}`;
    slider.setAttribute("aria-label", `direction ${i}`);
    Object.assign(slider, { type: "range", min: -REACH, max: REACH, step: 0.1 });
    amount.id = `amount${i}`;
    slider.addEventListener("input", () => change({ along: asked.along.with(i, Number(slider.value)) }));
    field.append(label, slider, amount);
    element("directions").append(field);
  });
  element("reset").addEventListener("click", () => change({ along: directions.map(() => 0) }));
  element("random").addEventListener("click", another);
  element("next").addEventListener("click", following);
  element("play").addEventListener("click", play);
  element("download").addEventListener("click", () => download().catch(error => say(error.message, true)));
  element("controls").addEventListener("submit", event => event.preventDefault());
  for (const button of document.querySelectorAll("[data-view]"))
    button.addEventListener("click", () => change({ view: button.dataset.view }));
  element("sheet").addEventListener("click", event => {
    const [y, x] = looks.pixelUnder(event, element("sheet"), element("sheet"));
    const row = Math.floor(y / (size.height + PADDING)), column = Math.floor(x / (size.width + PADDING));
    const index = looks.clamp(row, 0, asked.rows - 1) * asked.columns + looks.clamp(column, 0, asked.columns - 1);
    change({ view: "picture", number: gridOf(asked).first + index });
  });
  element("sheet").addEventListener("keydown", event => {
    if (event.key === "Enter") change({ view: "picture", number: gridOf(asked).first });
  });
}

function another() {
  change({ seed: crypto.getRandomValues(new Uint32Array(1))[0] });
}

function following() {
  const { first, count } = gridOf(asked), next = asked.view === "grid" ? first + count : asked.number + 1;
  change({ number: Math.min(next, LARGEST.number) });
}

function play() {
  playing = !playing;
  show();
  draw();
}

async function step() {
  await new Promise(done => setTimeout(done, Math.max(0, lastFrame + 1000 / FRAMES - performance.now())));
  lastFrame = performance.now();
  asked.at = (asked.at + 1) % (asked.stops * FRAMES);
  show();
  due = true;
}

document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, button, a")) return;
  if (event.key === "r") another();
  else if (event.key === "n" && asked.view !== "walk") following();
  else if (event.key === " " && asked.view === "walk") {
    event.preventDefault();
    play();
  }
});

// ---- the picture as a file, marked as this program's so that it never becomes a training image

async function download() {
  const grid = asked.view === "grid", source = grid ? element("sheet") : looks.picture(shown.pixels, size);
  const blob = await new Promise(done => source.toBlob(done, "image/png"));
  const png = marked(new Uint8Array(await blob.arrayBuffer()), "Software", "sagan");
  const link = document.createElement("a"), address = URL.createObjectURL(new Blob([png], { type: "image/png" }));
  link.href = address;
  link.download = `${model.name}-${asked.view}-${asked.seed}-${asked.view === "walk" ? asked.at : asked.number}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// A PNG with one more text, behind its header.
function marked(png, keyword, text) {
  const words = new TextEncoder().encode(`tEXt${keyword}\0${text}`), chunk = new Uint8Array(words.length + 8);
  const view = new DataView(chunk.buffer), header = 8 + 25;
  view.setUint32(0, words.length - 4);
  chunk.set(words, 4);
  view.setUint32(words.length + 4, checksum(words));
  return new Blob([png.subarray(0, header), chunk, png.subarray(header)]);
}

function checksum(data) { // CRC-32
  let rest = 0xffffffff;
  for (const byte of data) {
    rest ^= byte;
    for (let i = 0; i < 8; i++) rest = rest >>> 1 ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return (rest ^ 0xffffffff) >>> 0;
}

// ---- start

const START = structuredClone(asked);
addControls();
document.querySelector(".scale").style.background = looks.ramp(colours);
element("square").hidden = model.layers.every(layer => layer.radius < 0);
main.hidden = false;
say("loading the runtime");
fromAddress();
addEventListener("hashchange", fromAddress);
