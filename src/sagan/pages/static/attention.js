// Where an attention layer looks, drawn on a canvas: shared by every page that shows it.
//
// A layer is described by height and width (of its map), rows and columns (of its keys), pool, radius (of the excluded
// square, -1 where there is none) and masking. A query has a row y and a column x in the map. Pictures are pixels, three
// bytes each, of a size {height, width}.

export const SIDE = 416; // pixels of the longer side of a canvas
const DIM = 0.4; // brightness of a picture under weights

export function clamp(value, least, most) {
  return Math.min(Math.max(value, least), most);
}

// The query at a pixel of a picture.
export function queryAt(layer, size, y, x) {
  return { y: Math.floor(y * layer.height / size.height), x: Math.floor(x * layer.width / size.width) };
}

// The square that a query may not look at, in cells of the keys; null where it may look at all.
export function excluded(layer, query) {
  if (layer.radius < 0) return null;
  const cell = (at, size) => Math.floor(clamp(at, 0, size - 1) / layer.pool);
  const top = cell(query.y - layer.radius, layer.height), left = cell(query.x - layer.radius, layer.width);
  const bottom = cell(query.y + layer.radius, layer.height), right = cell(query.x + layer.radius, layer.width);
  return { top, left, rows: bottom - top + 1, columns: right - left + 1 };
}

function percent(share) {
  return share >= 0.1 ? `${Math.round(100 * share)}%` : `${Number((100 * share).toPrecision(2))}%`;
}

// The weight of each key if the query looked at all it may see alike.
export function uniform(layer, query) {
  const square = excluded(layer, query), cells = layer.rows * layer.columns;
  const seen = layer.masking === "after" || !square ? cells : cells - square.rows * square.columns;
  return 1 / Math.max(seen, 1);
}

// In words: the largest weight, and where it is known the share that fell `inside` the square.
export function said(layer, query, largest, inside = null) {
  const times = largest / uniform(layer, query);
  const text = largest ? `strongest key ${percent(largest)} (${times.toFixed(times >= 10 ? 0 : 1)}x uniform)` : "looks at nothing";
  return inside === null ? text : `${text}; ${percent(inside)} of the softmax was in the hidden square`;
}

// How light the weights of a query are, bytes: 128 is uniform. figures.py has the same scale.
export function lightOf(layer, query, weights) {
  const even = uniform(layer, query);
  return Uint8Array.from(weights, weight => Math.round(255 * weight / (weight + even)));
}

// A new canvas of one colour [red, green, blue] for each pixel.
export function painted({ height, width }, colour) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d"), image = context.createImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    const [red, green, blue] = colour(i);
    image.data.set([red, green, blue, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}

export function picture(pixels, size) {
  return painted(size, i => pixels.subarray(3 * i, 3 * i + 3));
}

export function dimmed(pixels, size) {
  return painted(size, i => {
    const grey = DIM * (0.299 * pixels[3 * i] + 0.587 * pixels[3 * i + 1] + 0.114 * pixels[3 * i + 2]);
    return [grey, grey, grey];
  });
}

// Sets the size of a canvas for pictures of a size.
export function fit(canvas, size) {
  const longer = Math.max(size.height, size.width);
  canvas.width = Math.round(SIDE * size.width / longer);
  canvas.height = Math.round(SIDE * size.height / longer);
}

export function lay(context, image, how = "source-over") {
  context.imageSmoothingEnabled = false;
  context.globalCompositeOperation = how;
  context.drawImage(image, 0, 0, context.canvas.width, context.canvas.height);
  context.globalCompositeOperation = "source-over";
}

// A ring around the middle of a pixel, one of height x width.
export function ring(context, { height, width }, y, x) {
  const across = (x + 0.5) * context.canvas.width / width, down = (y + 0.5) * context.canvas.height / height;
  for (const [colour, thick] of [["black", 7], ["white", 3]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.beginPath();
    context.arc(across, down, 10, 0, 2 * Math.PI);
    context.stroke();
  }
}

function outline(context, layer, square) {
  const cell = { width: context.canvas.width / layer.columns, height: context.canvas.height / layer.rows };
  const corner = [square.left * cell.width, square.top * cell.height];
  for (const [colour, thick, dashes] of [["black", 5, []], ["white", 3, [10, 7]]]) {
    context.strokeStyle = colour;
    context.lineWidth = thick;
    context.setLineDash(dashes);
    context.strokeRect(...corner, square.columns * cell.width, square.rows * cell.height);
  }
  context.setLineDash([]);
}

function cells(context, layer) {
  const { width, height } = context.canvas;
  context.strokeStyle = "rgba(255, 255, 255, 0.25)";
  context.lineWidth = 1;
  for (let i = 1; i < layer.columns; i++) context.strokeRect(i * width / layer.columns, -1, 0, height + 2);
  for (let i = 1; i < layer.rows; i++) context.strokeRect(-1, i * height / layer.rows, width + 2, 0);
}

// Where one query looks: the light of its weights over the dimmed picture. Colours: 256, three bytes each.
export function drawLook(context, layer, query, pixels, size, light, colours) {
  const square = excluded(layer, query);
  lay(context, dimmed(pixels, size));
  const keys = { height: layer.rows, width: layer.columns };
  lay(context, painted(keys, i => colours.subarray(3 * light[i], 3 * light[i] + 3)), "screen");
  if (layer.pool > 1) cells(context, layer);
  if (square) outline(context, layer, square);
  ring(context, layer, query.y, query.x);
}

// The pixel of a picture under a pointer.
export function pixelUnder(event, canvas, size) {
  const box = canvas.getBoundingClientRect();
  const pixel = (share, most) => clamp(Math.floor(share * most), 0, most - 1);
  return [
    pixel((event.clientY - box.top) / box.height, size.height),
    pixel((event.clientX - box.left) / box.width, size.width),
  ];
}

// All colours, from no light on, as CSS.
export function ramp(colours) {
  const stops = Array.from({ length: 9 }, (_, i) => colours.slice(3 * Math.round(i * 255 / 8)).subarray(0, 3));
  return `linear-gradient(to right, ${stops.map(stop => `rgb(${stop})`)})`;
}

export function bytes(text) {
  return Uint8Array.from(atob(text), character => character.charCodeAt(0));
}

export function floats(text) {
  return new Float32Array(bytes(text).buffer);
}
