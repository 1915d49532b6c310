// Drawing from one model, or from two side by side at the same latents: what is asked for (in the controls and in the
// address), the pictures, and where they look.
//
// A model has {name, place, height, width, classes, directions (how many), steps (of its snapshots, or null), real (how
// many images it was trained on that can be shown, or none)} and
//   draw(asked, numbers, signal): a promise of the pixels, three bytes each, of the pictures with these numbers, or for
//     null of the one at asked.at on the walk through asked.pins;
//   look(asked, y, x): a promise of layers as attention.js takes them, each with `light`, `largest` and `inside`.

import * as looks from "./attention.js";
import { keep, pngOf } from "./keep.js";

const FRAMES = 24; // from one picture of a walk to the next, as of `sagan walk`
const LEAST = 0.1, NONE = 3.1; // the ends of the slider of truncations; the last one truncates nothing
const REACH = 3; // along a direction
const PADDING = 2, AT_ONCE = 8; // of a grid; pictures that are drawn together
const LARGEST = { seed: Number.MAX_SAFE_INTEGER, number: 9999999, rows: 12, columns: 12, step: Number.MAX_SAFE_INTEGER };
const MOST_PINS = 64;
const ADDRESSES = 150, WITHIN = 30_000; // as many in so many milliseconds; a browser refuses 200
const element = id => document.getElementById(id), main = document.querySelector("main");

// Shows models, all with pictures of one size. `kept`: words of the address that are not this module's.
export function studio(models, colours, say, kept = () => ({})) {
  const first = models[0], size = { height: first.height, width: first.width };
  const asked = {
    view: "picture", seed: 0, number: 0, step: null, label: null, truncation: null, at: 0,
    pins: [0, 1, 2, 3, 4, 5, 6, 7], rows: 4, columns: 4, along: Array(first.directions).fill(0),
  };
  const START = structuredClone(asked);
  const real = models.every(model => model.real);
  const point = { y: size.height >> 1, x: size.width >> 1, shown: false, held: false };
  const stages = models.map(newStage);
  const end = new AbortController(); // of all that listens, when other models are shown
  const listen = (target, name, call) => target.addEventListener(name, call, { signal: end.signal });

  // ---- drawing, one after another; what is asked for meanwhile is drawn next

  let due = false, drawing = false, playing = false, lastFrame = 0;

  async function draw() {
    due = true;
    if (drawing) return;
    drawing = true;
    main.setAttribute("aria-busy", "true");
    try {
      while (due && !end.signal.aborted) {
        due = false;
        await (asked.view === "grid" ? drawGrids() : drawPictures());
        if (end.signal.aborted) return;
        say("");
        if (playing && asked.view === "walk") await step();
      }
    } catch (error) {
      if (!end.signal.aborted) say(error.drawn ? error.message : `nothing is drawn: ${error.message}`, true);
    } finally {
      drawing = false;
      main.setAttribute("aria-busy", "false");
      if (lookingDue) pointed(); // what was pointed at while it drew
    }
  }

  async function drawPictures() {
    const wanted = structuredClone(asked), numbers = asked.view === "walk" ? null : [asked.number];
    const drawn = await Promise.all(models.map(model => model.draw(wanted, numbers, end.signal)));
    stages.forEach((stage, i) => {
      stage.pixels = drawn[i];
      stage.caption.textContent = caption(models[i]);
    });
    try {
      await look(wanted);
    } catch (error) { // the picture is there
      for (const stage of stages) stage.layers = [];
      paint();
      throw Object.assign(new Error(`where it looks is not known: ${error.message}`), { drawn: true });
    }
  }

  let sheets = null; // what the grids show, while it is all of it

  async function drawGrids() {
    const count = asked.rows * asked.columns, start = gridOf().first, wanted = structuredClone(asked);
    const again = sheets === JSON.stringify(wanted); // of snapshots that were made anew: the old ones stay until then
    for (const { sheet } of again ? [] : stages) {
      sheet.width = asked.columns * (size.width + PADDING) + PADDING;
      sheet.height = asked.rows * (size.height + PADDING) + PADDING;
      sheet.getContext("2d").fillRect(0, 0, sheet.width, sheet.height);
    }
    for (let done = 0; done < count && !due && !end.signal.aborted; done += AT_ONCE) {
      const numbers = Array.from({ length: Math.min(AT_ONCE, count - done) }, (_, i) => start + done + i);
      const drawn = await Promise.all(models.map(model => model.draw(wanted, numbers, end.signal)));
      drawn.forEach((pixels, k) => numbers.forEach((_, i) => {
        const each = pixels.length / numbers.length, { top, left } = placeOf(done + i);
        const picture = looks.picture(pixels.subarray(i * each, (i + 1) * each), size);
        stages[k].sheet.getContext("2d").drawImage(picture, left, top);
      }));
      if (!again) say(`drawn ${Math.min(done + AT_ONCE, count)} of ${count}`);
    }
    sheets = due ? null : JSON.stringify(wanted);
  }

  function gridOf() {
    const count = asked.rows * asked.columns;
    return { first: Math.floor(asked.number / count) * count, count };
  }

  function placeOf(index) {
    const row = Math.floor(index / asked.columns), column = index % asked.columns;
    return { top: PADDING + row * (size.height + PADDING), left: PADDING + column * (size.width + PADDING) };
  }

  function caption(model) {
    const step = model.steps ? `, step ${grouped(stepOf(model, asked))}` : "";
    const of = models.length > 1 ? `${model.name}, ` : "";
    if (asked.view === "real") return `${of}training image ${asked.number % model.real} of ${grouped(model.real)}`;
    if (asked.view === "walk") return `${of}frame ${asked.at} of ${asked.pins.length * FRAMES}${step}`;
    const number = asked.label ?? asked.number % first.classes.length;
    const label = first.classes.length ? `, class ${number} ('${first.classes[number]}')` : "";
    return `${of}seed ${asked.seed}, picture ${asked.number}${label}${step}`;
  }

  // ---- where it looks

  function newStage(model) {
    const section = document.createElement("section"), panels = document.createElement("div");
    const sheet = document.createElement("canvas"), note = document.createElement("p");
    section.setAttribute("aria-label", model.name);
    panels.className = "panels";
    sheet.className = "sheet";
    sheet.tabIndex = 0;
    sheet.setAttribute("role", "img");
    sheet.setAttribute("aria-label", "grid of pictures; a click, or Enter, opens one");
    note.className = "note";
    note.setAttribute("role", "status");
    section.append(note, panels, sheet);
    element("models").append(section);
    const stage = { model, section, note, panels, sheet, pixels: null, layers: [], newest: -1 };
    const { canvas, caption, below } = newPanel(stage, "picture");
    canvas.closest("figure").className = "stage";
    canvas.tabIndex = 0;
    canvas.setAttribute("aria-describedby", "looking");
    return Object.assign(stage, { canvas, caption, below });
  }

  function newPanel(stage, title) {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const canvas = document.createElement("canvas"), below = document.createElement("div");
    caption.textContent = title;
    below.className = "said";
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", title);
    looks.fit(canvas, size);
    figure.append(caption, canvas, below);
    stage.panels.append(figure);
    return { figure, canvas, caption, below };
  }

  // Asks where the point looks, and shows it; what is pointed at meanwhile is asked for next.
  async function look(wanted = structuredClone(asked)) {
    if (!point.shown || stages.some(stage => !stage.pixels)) {
      paint();
      return;
    }
    const { y, x } = point;
    const found = await Promise.all(models.map(model => model.look(wanted, y, x, end.signal)));
    stages.forEach((stage, i) => { Object.assign(stage, { layers: found[i], asked: { y, x } }); });
    paint();
  }

  let lookingDue = false, looking = false;

  async function pointed() {
    paint();
    lookingDue = true;
    if (looking || drawing) return;
    looking = true;
    try {
      while (lookingDue && !drawing) {
        lookingDue = false;
        await look();
      }
    } catch (error) {
      if (!end.signal.aborted) say(`where it looks is not known: ${error.message}`, true);
    } finally {
      looking = false;
    }
  }

  function paint() {
    for (const stage of stages) {
      if (!stage.pixels) continue;
      const context = stage.canvas.getContext("2d");
      looks.lay(context, looks.picture(stage.pixels, size));
      if (point.shown) looks.ring(context, size, point.y, point.x);
      stage.below.textContent = point.shown ? `row ${point.y}, column ${point.x}${point.held ? ", held" : ""}` : "";
      paintLayers(stage);
    }
  }

  function paintLayers(stage) {
    while (stage.panels.children.length < stage.layers.length + 1) {
      const panel = newPanel(stage, "");
      pointing(panel.canvas);
      panel.figure.panel = panel;
    }
    [...stage.panels.children].slice(1).forEach((figure, i) => {
      const { canvas, caption, below } = figure.panel, layer = stage.layers[i], context = canvas.getContext("2d");
      figure.hidden = !layer;
      if (!layer) return;
      caption.textContent = `${layer.name}, ${layer.label}, gamma ${layer.gamma.toFixed(2)}`;
      canvas.setAttribute("aria-label", `where the layer ${layer.name} looks`);
      if (!point.shown) {
        looks.lay(context, looks.dimmed(stage.pixels, size));
        below.textContent = "point at the picture";
        return;
      }
      const query = looks.queryAt(layer, size, stage.asked.y, stage.asked.x);
      looks.drawLook(context, layer, query, stage.pixels, size, layer.light, colours);
      below.textContent = looks.said(layer, query, layer.largest, layer.inside);
    });
  }

  function lookFrom(y, x, held = point.held) {
    Object.assign(point, { y, x, held, shown: true });
    if (held) showAddress();
    pointed();
  }

  function letGo() {
    Object.assign(point, { shown: false, held: false });
    showAddress();
    paint();
  }

  function pointing(canvas) {
    listen(canvas, "pointermove", event => {
      if (event.pointerType === "mouse" && !point.held) lookFrom(...looks.pixelUnder(event, canvas, size));
    });
    listen(canvas, "click", event => {
      const touched = event.pointerType !== "mouse";
      lookFrom(...looks.pixelUnder(event, canvas, size), touched || !point.held);
    });
    listen(canvas, "pointerleave", event => { if (!point.held && event.pointerType === "mouse") letGo(); });
  }

  function moved(event) {
    const layers = stages.flatMap(stage => stage.layers);
    const stride = Math.max(1, Math.min(size.height, ...layers.map(layer => size.height / layer.height)));
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === "Escape") letGo();
    if (!way) return;
    event.preventDefault();
    const step = layers.length ? stride : 1;
    const y = looks.clamp(point.y + way[0] * step, 0, size.height - 1);
    lookFrom(y, looks.clamp(point.x + way[1] * step, 0, size.width - 1), true);
  }

  // ---- what is asked for

  function change(values) {
    Object.assign(asked, values);
    asked.at = asked.at % (asked.pins.length * FRAMES);
    if (asked.step === steps().at(-1)) asked.step = null; // the newest, also when newer ones come
    playing &&= asked.view === "walk";
    show();
    draw();
  }

  function show() {
    for (const name of ["seed", "number", "rows", "columns", "at"]) element(name).value = asked[name];
    if (document.activeElement !== element("pins")) element("pins").value = asked.pins.join(" ");
    element("at").max = asked.pins.length * FRAMES - 1;
    element("label").value = asked.label ?? "";
    element("truncation").value = asked.truncation ?? NONE;
    element("truncated").textContent = asked.truncation === null ? "none" : asked.truncation.toFixed(1);
    showSteps();
    asked.along.forEach((amount, i) => {
      element(`along${i}`).value = amount;
      element(`amount${i}`).textContent = amount.toFixed(1);
    });
    const grid = asked.view === "grid", walk = asked.view === "walk";
    for (const field of document.querySelectorAll(".latent")) field.classList.toggle("unused", asked.view === "real");
    for (const button of document.querySelectorAll("[data-view]"))
      button.setAttribute("aria-pressed", String(button.dataset.view === asked.view));
    for (const stage of stages) {
      stage.panels.hidden = grid;
      stage.sheet.hidden = !grid;
      stage.canvas.setAttribute("aria-label", caption(stage.model));
    }
    element("looking").hidden = grid;
    document.querySelector(".walking").hidden = !walk;
    document.querySelector(".arranging").hidden = !grid;
    element("number").disabled = element("next").disabled = walk;
    element("pin").hidden = asked.view !== "picture";
    element("play").textContent = playing ? "Stop" : "Play";
    element("play").setAttribute("aria-pressed", String(playing));
    const words = models.map(command).filter(Boolean).join("\n");
    element("command").hidden = !words;
    element("words").textContent = words;
    element("wordless").hidden = Boolean(words) || !first.place;
    showAddress();
  }

  // The steps of the snapshots of all models.
  function steps() {
    return [...new Set(models.flatMap(model => model.steps ?? []))].sort((a, b) => a - b);
  }

  function showSteps() {
    const all = steps();
    element("steps").hidden = all.length < 2;
    if (!all.length) return;
    const step = stepOf({ steps: all }, asked);
    element("step").max = all.length - 1;
    element("step").value = all.indexOf(step);
    element("stepped").textContent = grouped(step);
    for (const stage of stages) {
      const { model } = stage, drawn = stepOf(model, asked);
      stage.newest = Math.max(stage.newest, model.steps.at(-1)); // so far; it may go
      const wanted = asked.step ?? stage.newest, gone = wanted !== drawn && asked.view !== "real";
      const text = gone ? `${model.name} has no snapshot of step ${grouped(wanted)}: the nearest is drawn, of step ${grouped(drawn)}.` : "";
      if (stage.note.textContent !== text) stage.note.textContent = text;
    }
  }

  let later = null, written = []; // when

  function showAddress() {
    const here = address(), now = performance.now();
    element("link").href = `#${here}`;
    clearTimeout(later);
    if (playing || end.signal.aborted) return;
    written = written.filter(at => at > now - WITHIN);
    if (written.length < ADDRESSES) {
      written.push(now);
      history.replaceState(null, "", here ? `#${here}` : location.pathname + location.search);
    } else later = setTimeout(showAddress, written[0] + WITHIN - now);
  }

  // What differs from the page as it opens, and the step also where it is the newest: such as "step=400&seed=3&along=0,1.5".
  function address() {
    const words = new URLSearchParams(kept()), all = steps();
    if (all.length) words.set("step", asked.step ?? all.at(-1));
    for (const [name, start] of Object.entries(START))
      if (name !== "step" && String(asked[name]) !== String(start)) words.set(name, String(asked[name]));
    if (point.held) words.set("point", `${point.y},${point.x}`);
    return words.toString().replaceAll("%2C", ",");
  }

  function fromAddress() {
    const words = new URLSearchParams(location.hash.slice(1)), values = structuredClone(START);
    for (const name of ["seed", "number", "rows", "columns"])
      if (words.has(name)) values[name] = whole(words.get(name), name, START[name]);
    if (words.has("pins")) values.pins = pinsOf(words.get("pins")) ?? START.pins;
    values.at = whole(words.get("at"), "at", 0, values.pins.length * FRAMES - 1);
    if (["walk", "grid", ...(real ? ["real"] : [])].includes(words.get("view"))) values.view = words.get("view");
    if (words.has("label")) values.label = whole(words.get("label"), "label", null, first.classes.length - 1);
    if (words.has("step") && first.steps) values.step = whole(words.get("step"), "step", null);
    if (words.has("truncation")) values.truncation = truncationOf(words.get("truncation"));
    (words.get("along") ?? "").split(",").slice(0, first.directions).forEach((text, i) => {
      values.along[i] = looks.clamp(Number(text) || 0, -REACH, REACH);
    });
    const [y, x] = (words.get("point") ?? "").split(",").map((text, i) => whole(text, "point", null, [size.height, size.width][i] - 1));
    if (Number.isInteger(y) && Number.isInteger(x)) Object.assign(point, { y, x, shown: true, held: true });
    else if (point.held) Object.assign(point, { shown: false, held: false });
    change(values);
  }

  function truncationOf(text) {
    const value = Number(text);
    return value >= LEAST - 1e-9 && value < NONE - 1e-9 ? value : null;
  }

  // The command that draws the same; directions have none.
  function command(model) {
    if (!model.place || asked.view === "real" || asked.along.some(amount => amount)) return "";
    const options = [`--seed ${asked.seed}`];
    if (model.steps) options.push(`--step ${stepOf(model, asked)}`);
    if (asked.truncation !== null) options.push(`--truncation ${asked.truncation}`);
    if (asked.label !== null) options.push(`--label=${quoted(first.classes[asked.label])}`);
    const many = options.join(" ");
    if (asked.view === "walk") {
      const plain = asked.pins.every((pin, i) => pin === i);
      return plain ? `sagan walk ${quoted(model.place)} ${many} --seeds ${asked.pins.length} --out walk.webp` : "";
    }
    const { first: start, count } = gridOf();
    if (asked.view === "grid" && !start)
      return `sagan sample ${quoted(model.place)} ${many} --grid ${asked.rows} ${asked.columns} --out grid.png`;
    const num = asked.view === "grid" ? start + count : asked.number + 1;
    return `sagan sample ${quoted(model.place)} ${many} --num ${num} --out pictures`;
  }

  function addControls() {
    for (const name of ["seed", "number", "rows", "columns"])
      listen(element(name), "change", event => change({ [name]: whole(event.target.value, name, asked[name]) }));
    listen(element("pins"), "change", event => {
      pinned = pinsOf(event.target.value) ?? asked.pins;
      change({ pins: pinned });
    });
    listen(element("pins"), "blur", show);
    listen(element("at"), "input", event => change({ at: Number(event.target.value) }));
    listen(element("truncation"), "input", event => change({ truncation: truncationOf(event.target.value) }));
    listen(element("step"), "input", event => change({ step: steps()[Number(event.target.value)] }));
    element("classes").hidden = !first.classes.length;
    const options = [["", "in turn"], ...first.classes.map((name, i) => [String(i), name])];
    element("label").replaceChildren(...options.map(([value, text]) => new Option(text, value)));
    listen(element("label"), "change", event => {
      change({ label: event.target.value === "" ? null : Number(event.target.value) });
    });
    element("directions").replaceChildren(...START.along.map((_, i) => direction(i)));
    listen(element("reset"), "click", () => change({ along: structuredClone(START.along) }));
    listen(element("random"), "click", another);
    listen(element("next"), "click", following);
    listen(element("play"), "click", play);
    listen(element("pin"), "click", pin);
    listen(element("download"), "click", () => download().catch(error => say(error.message, true)));
    listen(element("controls"), "submit", event => event.preventDefault());
    document.querySelector("[data-view=real]").hidden = !real;
    for (const button of document.querySelectorAll("[data-view]"))
      listen(button, "click", () => change({ view: button.dataset.view }));
    for (const { canvas, sheet } of stages) {
      pointing(canvas);
      listen(canvas, "keydown", moved);
      listen(sheet, "click", event => {
        const [y, x] = looks.pixelUnder(event, sheet, sheet);
        const row = Math.floor(y / (size.height + PADDING)), column = Math.floor(x / (size.width + PADDING));
        const index = looks.clamp(row, 0, asked.rows - 1) * asked.columns + looks.clamp(column, 0, asked.columns - 1);
        change({ view: "picture", number: gridOf().first + index });
      });
      listen(sheet, "keydown", event => {
        if (event.key === "Enter") change({ view: "picture", number: gridOf().first });
      });
    }
    listen(document, "keydown", event => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, button, a")) return;
      if (event.key === "r") another();
      else if (event.key === "n" && asked.view !== "walk") following();
      else if (event.key === "p" && asked.view === "picture") pin();
      else if (event.key === " " && asked.view === "walk") {
        event.preventDefault();
        play();
      }
    });
  }

  function direction(i) {
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
    return field;
  }

  function another() {
    change({ seed: crypto.getRandomValues(new Uint32Array(1))[0] });
  }

  function following() {
    const { first: start, count } = gridOf(), next = asked.view === "grid" ? start + count : asked.number + 1;
    change({ number: Math.min(next, LARGEST.number) });
  }

  let pinned = []; // pictures that a person chose for the walk

  function pin() {
    if (pinned.includes(asked.number)) {
      say(`picture ${asked.number} is pinned already: choose another number`);
      return;
    }
    pinned = [...pinned.filter(each => each !== asked.number), asked.number].slice(-MOST_PINS);
    if (pinned.length > 1) Object.assign(asked, { pins: pinned });
    show();
    say(pinned.length > 1 ? `${pinned.length} pictures are pinned: Walk goes through them` : "pinned: a walk needs a second one");
  }

  function play() {
    playing = !playing;
    show();
    draw();
  }

  async function step() {
    await new Promise(done => setTimeout(done, Math.max(0, lastFrame + 1000 / FRAMES - performance.now())));
    lastFrame = performance.now();
    asked.at = (asked.at + 1) % (asked.pins.length * FRAMES);
    show();
    due = true;
  }

  async function download() {
    const { view, seed, number, at } = asked;
    for (const { model, sheet, pixels } of stages) {
      const file = await pngOf(view === "grid" ? sheet : looks.picture(pixels, size));
      keep(file, [model.name, view, String(seed), String(view === "walk" ? at : number)], "png");
    }
  }

  addControls();
  document.querySelector(".scale").style.background = looks.ramp(colours);
  main.hidden = false;
  fromAddress();
  return {
    close() { // other models are shown
      end.abort();
      for (const { section } of stages) section.remove();
    },
    fromAddress, // shows what the address says
    redraw() { // what `kept` says has changed
      showAddress();
      draw();
    },
    follow(now) { // the models have snapshots of these steps, some perhaps made anew
      models.forEach((model, i) => { model.steps = now[i]; });
      show();
      draw();
    },
  };
}

// A word as it is typed in a shell.
function quoted(word) {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\"'\"'")}'`;
}

// The step of a model's snapshot that is nearest to the one asked for; the newest by default.
export function stepOf(model, asked) {
  if (asked.step === null) return model.steps.at(-1);
  return model.steps.reduce((best, step) => Math.abs(step - asked.step) < Math.abs(best - asked.step) ? step : best);
}

// Where a walk through `pins` is at a frame, in pictures: 1.5 is half way from the second to the third.
export function positionOf(asked) {
  return asked.at / FRAMES;
}

function grouped(number) {
  return number.toLocaleString("en-US");
}

function whole(text, name, otherwise, most = LARGEST[name]) {
  const least = { rows: 1, columns: 1 }[name] ?? 0;
  return text !== null && /^\d+$/.test(text) && most >= least ? looks.clamp(Number(text), least, most) : otherwise;
}

// Numbers of pictures in a text; null unless there are two or more.
function pinsOf(text) {
  const words = text.trim().split(/[\s,]+/);
  const right = words.length > 1 && words.every(word => /^\d+$/.test(word) && Number(word) <= LARGEST.number);
  return right ? words.slice(0, MOST_PINS).map(Number) : null;
}
