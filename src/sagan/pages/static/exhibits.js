// The page of `sagan attention`: exhibits of the same pictures, a run each, and where each layer of a run looks in them.

// ---- the data: weights by how light they are, bytes, and the largest of each query

const DATA = JSON.parse(document.getElementById("data").textContent);
const SIZE = { height: DATA.size, width: DATA.size };
const COLOURS = bytes(DATA.colours);
const state = { image: 0, y: 0, x: 0, held: false };

for (const exhibit of DATA.exhibits) {
  exhibit.pictures = exhibit.pictures.map(bytes);
  for (const layer of exhibit.layers)
    for (const look of layer.looks) {
      look.light = bytes(look.light);
      look.largest = floats(look.largest);
      look.inside = floats(look.inside);
    }
}

// The query of a layer nearest to a pixel of the picture, among those that are in the page.
function nearestQuery(layer, y, x) {
  const { first, step } = layer, at = queryAt(layer, SIZE, y, x);
  const place = (pixel, size) => clamp(Math.round((pixel - first) / step), 0, Math.ceil((size - first) / step) - 1);
  const row = place(at.y, layer.height), column = place(at.x, layer.width);
  return { number: row * Math.ceil((layer.width - first) / step) + column, y: first + row * step, x: first + column * step };
}

function lightAt(layer, image, query) {
  const cells = layer.rows * layer.columns;
  return layer.looks[image].light.subarray(query.number * cells, (query.number + 1) * cells);
}

// ---- drawing

const panels = []; // functions that draw one canvas each

function addPanel(parent, title, draw) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const canvas = document.createElement("canvas"), below = document.createElement("div");
  caption.textContent = title;
  below.className = "said";
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  canvas.setAttribute("aria-label", title);
  fit(canvas, SIZE);
  figure.append(caption, canvas, below);
  parent.append(figure);
  panels.push(() => { below.textContent = draw(canvas.getContext("2d")); });
  canvas.addEventListener("pointermove", event => {
    if (event.pointerType === "mouse" && !state.held) look(...pixelUnder(event, canvas, SIZE));
  });
  canvas.addEventListener("click", event => {
    state.held = !state.held;
    look(...pixelUnder(event, canvas, SIZE));
  });
  canvas.addEventListener("keydown", event => {
    const stride = Math.max(1, SIZE.height / Math.max(...DATA.exhibits[0].layers.map(layer => layer.height)));
    const way = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!way) return;
    event.preventDefault();
    state.held = true;
    look(state.y + way[0] * stride, state.x + way[1] * stride);
  });
}

function addExhibit(exhibit) {
  const section = document.createElement("section"), heading = document.createElement("h2");
  const row = document.createElement("div");
  heading.textContent = exhibit.name;
  row.className = "panels";
  section.append(heading, row);
  document.getElementById("exhibits").append(section);
  addPanel(row, "picture", context => {
    lay(context, picture(exhibit.pictures[state.image], SIZE));
    ring(context, SIZE, state.y, state.x);
    const of = exhibit.classes.length ? `class ${exhibit.classes[state.image]}, ` : "";
    return `${of}row ${state.y}, column ${state.x}`;
  });
  for (const layer of exhibit.layers) {
    const thinned = layer.step > 1 ? `, one pixel in each ${layer.step}x${layer.step}` : "";
    addPanel(row, `${layer.name}, ${layer.label}, gamma ${layer.gamma.toFixed(2)}${thinned}`, context => {
      const query = nearestQuery(layer, state.y, state.x), look = layer.looks[state.image];
      drawLook(context, layer, query, exhibit.pictures[state.image], SIZE, lightAt(layer, state.image, query), COLOURS);
      return said(layer, query, look.largest[query.number], layer.radius < 0 ? null : look.inside[query.number]);
    });
  }
}

// ---- choosing

function look(y, x) {
  state.y = clamp(y, 0, SIZE.height - 1);
  state.x = clamp(x, 0, SIZE.width - 1);
  for (const draw of panels) draw();
  [...document.getElementById("points").querySelectorAll("button")].forEach((button, i) => {
    const [y, x] = DATA.points[state.image][i];
    button.setAttribute("aria-pressed", String(y === state.y && x === state.x));
  });
}

function choosePicture(image) {
  state.image = image;
  state.held = false;
  [...document.getElementById("pictures").children].forEach((button, i) => {
    button.setAttribute("aria-pressed", String(i === image));
  });
  document.getElementById("figure").href = `image-${String(image).padStart(4, "0")}.png`;
  const row = document.getElementById("points");
  row.replaceChildren("points (row, column): ");
  for (const [y, x] of DATA.points[image]) {
    const button = document.createElement("button");
    button.textContent = `${y}, ${x}`;
    button.addEventListener("click", () => { state.held = true; look(y, x); });
    row.append(button);
  }
  look(...(DATA.points[image][0] || [SIZE.height >> 1, SIZE.width >> 1]));
}

function addPictures() {
  DATA.exhibits[0].pictures.forEach((pixels, image) => {
    const button = document.createElement("button");
    button.className = "picture";
    const of = DATA.exhibits[0].classes.length ? `, class ${DATA.exhibits[0].classes[image]}` : "";
    button.setAttribute("aria-label", `picture ${image}${of}`);
    button.setAttribute("title", `picture ${image}${of}`);
    button.append(picture(pixels, SIZE));
    button.addEventListener("click", () => choosePicture(image));
    document.getElementById("pictures").append(button);
  });
}

function addTable() {
  const table = document.getElementById("layers");
  DATA.table.forEach((cells, number) => {
    const row = table.insertRow();
    for (const [text, small] of cells) {
      const cell = number ? row.insertCell() : row.appendChild(document.createElement("th"));
      cell.textContent = text;
      if (small) {
        cell.append(" ", document.createElement("small"));
        cell.lastChild.textContent = `(${small})`;
      }
    }
  });
}

// attention.html#image=1&y=12&x=20 opens with that point held.
function start() {
  document.querySelector(".scale").style.background = ramp(COLOURS);
  DATA.exhibits.forEach(addExhibit);
  addPictures();
  addTable();
  const asked = new URLSearchParams(location.hash.slice(1));
  choosePicture(clamp(Number(asked.get("image")) || 0, 0, DATA.points.length - 1));
  if (asked.has("y") && asked.has("x")) {
    state.held = true;
    look(Number(asked.get("y")) || 0, Number(asked.get("x")) || 0);
  }
}

start();
