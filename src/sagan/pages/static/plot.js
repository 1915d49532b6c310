// Curves as SVG: hover values, a logarithmic axis, smoothing, marks, and files of what is shown (PNG, SVG, CSV).

const WIDTH = 640, HEIGHT = 280, LEFT = 62, RIGHT = 12, TOP = 10, BOTTOM = 40;
const INNER = { width: WIDTH - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM };
const NAMESPACE = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, text = "") {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

export function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(2);
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
}

// Round numbers between two ends, some `count` of them; of a logarithmic axis 1, 2 and 5 of each power of ten.
export function ticks(low, high, count, log = false) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    const inside = found.filter(value => value >= low * 0.999 && value <= high * 1.001);
    return inside.length > 8 ? inside.filter(value => Math.log10(value) % 1 === 0) : inside;
  }
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(digit => digit * power).find(each => each >= rough * 0.999);
  const first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => (first + i) * step);
}

// An exponential moving average: `share` 0 leaves the values, 0.99 is very smooth.
export function smoothed(values, share) {
  let mean = null, weight = 0;
  return values.map(value => {
    if (value === null) return null;
    mean = (mean ?? 0) * share + value * (1 - share);
    weight = weight * share + (1 - share);
    return mean / weight;
  });
}

// A figure in `parent`. `show({x, series, marks, lines, log, smooth, xLabel})` draws it anew: series are {label, x, y,
// spread, dots}, marks {x, said, kind}, lines {y, label}.
export function plot(parent, title) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const said = document.createElement("div"), legend = document.createElement("div"), files = document.createElement("div");
  const svg = make("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": title, tabindex: "0" });
  const hidden = new Set();
  let shown = null, scale = null;
  figure.className = "curve";
  caption.textContent = title;
  said.className = "said";
  legend.className = files.className = "choices small";
  figure.append(caption, svg, said, legend, files);
  parent.append(figure);

  for (const [kind, save] of [["PNG", savePng], ["SVG", saveSvg], ["CSV", saveCsv]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.setAttribute("aria-label", `${title} as ${kind}`);
    button.addEventListener("click", save);
    files.append(button);
  }

  function visible() {
    return shown.series.filter(each => !hidden.has(each.label));
  }

  function scales() {
    const xs = [], ys = [];
    for (const { x, y, spread } of visible())
      x.forEach((at, i) => {
        if (y[i] === null || !Number.isFinite(y[i]) || (shown.log && y[i] <= 0)) return;
        xs.push(at);
        ys.push(y[i], ...(spread?.[i] && !shown.log ? [y[i] - spread[i], y[i] + spread[i]] : []));
      });
    if (!xs.length) return null;
    const ends = values => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [Infinity, -Infinity]);
    let [[left, right], [low, high]] = [ends(xs), ends(ys)];
    for (const { y } of shown.lines ?? []) if (y > low - (high - low) && y < high + (high - low)) [low, high] = [Math.min(low, y), Math.max(high, y)];
    if (left === right) [left, right] = [left - 1, right + 1];
    if (low === high) [low, high] = shown.log ? [low / 2, high * 2] : [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
    const room = shown.log ? (high / low) ** 0.04 : (high - low) * 0.04;
    [low, high] = shown.log ? [low / room, high * room] : [low - room, high + room];
    const vertical = shown.log ? Math.log : value => value;
    return {
      left, right, low, high,
      x: value => LEFT + INNER.width * (value - left) / (right - left),
      y: value => TOP + INNER.height * (vertical(high) - vertical(value)) / (vertical(high) - vertical(low)),
    };
  }

  function draw() {
    svg.replaceChildren();
    scale = scales();
    if (!scale) {
      svg.append(make("text", { x: WIDTH / 2, y: HEIGHT / 2, "text-anchor": "middle", fill: "var(--soft)" }, "nothing yet"));
      return;
    }
    svg.append(make("title", {}, title));
    for (const value of ticks(scale.low, scale.high, 5, shown.log)) {
      const y = scale.y(value);
      svg.append(make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: y, y2: y, stroke: "var(--line)" }));
      svg.append(make("text", { x: LEFT - 6, y: y + 4, "text-anchor": "end", fill: "var(--soft)", "font-size": 12 }, number(value)));
    }
    for (const value of ticks(scale.left, scale.right, 5)) {
      if (shown.whole && !Number.isInteger(value)) continue;
      svg.append(make("text", { x: scale.x(value), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle", fill: "var(--soft)", "font-size": 12 }, number(value)));
    }
    svg.append(make("text", { x: LEFT + INNER.width / 2, y: HEIGHT - 4, "text-anchor": "middle", fill: "var(--soft)", "font-size": 12 }, shown.xLabel));
    for (const { y, label } of shown.lines ?? []) {
      if (y < scale.low || y > scale.high) continue;
      svg.append(make("line", { x1: LEFT, x2: WIDTH - RIGHT, y1: scale.y(y), y2: scale.y(y), stroke: "var(--soft)", "stroke-dasharray": "2 3" }));
      svg.append(make("text", { x: WIDTH - RIGHT, y: scale.y(y) - 4, "text-anchor": "end", fill: "var(--soft)", "font-size": 11 }, label));
    }
    for (const { x, said: words, kind } of shown.marks ?? []) {
      if (x < scale.left || x > scale.right) continue;
      const line = make("line", { x1: scale.x(x), x2: scale.x(x), y1: TOP, y2: TOP + INNER.height, stroke: "var(--wrong)", "stroke-dasharray": kind === "guard" ? "1 4" : "none", opacity: 0.7 });
      line.append(make("title", {}, words));
      svg.append(line);
    }
    shown.series.forEach((each, i) => {
      if (hidden.has(each.label)) return;
      const colour = `var(--c${i % 8})`;
      if (shown.smooth) svg.append(line(each, each.y, { stroke: colour, opacity: 0.25 }));
      svg.append(line(each, shown.smooth ? smoothed(each.y, shown.smooth) : each.y, { stroke: colour, "stroke-width": 1.6 }));
      each.x.forEach((x, k) => {
        if (each.y[k] === null || (shown.log && each.y[k] <= 0)) return;
        if (each.spread?.[k])
          svg.append(make("line", { x1: scale.x(x), x2: scale.x(x), y1: scale.y(each.y[k] - each.spread[k]), y2: scale.y(each.y[k] + each.spread[k]), stroke: colour }));
        if (each.dots) svg.append(make("circle", { cx: scale.x(x), cy: scale.y(each.y[k]), r: 3, fill: colour }));
      });
    });
  }

  function line(each, values, attributes) {
    let path = "", pen = "M";
    values.forEach((value, i) => {
      if (value === null || !Number.isFinite(value) || (shown.log && value <= 0)) pen = "M";
      else {
        path += `${pen}${scale.x(each.x[i]).toFixed(1)} ${scale.y(value).toFixed(1)}`;
        pen = "L";
      }
    });
    return make("path", { d: path, fill: "none", ...attributes });
  }

  function addLegend() {
    legend.replaceChildren();
    shown.series.forEach((each, i) => {
      const button = document.createElement("button"), dot = document.createElement("span");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(each.label)));
      dot.className = `dot c${i % 8}`;
      button.append(dot, each.label);
      button.addEventListener("click", () => {
        if (!hidden.delete(each.label)) hidden.add(each.label);
        addLegend();
        draw();
      });
      legend.append(button);
    });
    legend.hidden = shown.series.length < 2;
  }

  svg.addEventListener("pointermove", event => {
    if (!scale) return;
    const box = svg.getBoundingClientRect(), across = (event.clientX - box.left) / box.width * WIDTH;
    const x = scale.left + (across - LEFT) / INNER.width * (scale.right - scale.left);
    read(x);
  });
  svg.addEventListener("pointerleave", () => {
    said.textContent = "";
    svg.querySelector(".cursor")?.remove();
  });

  // Says the values nearest to a place, and marks it.
  function read(x) {
    const words = [];
    let at = null;
    for (const each of visible()) {
      let nearest = -1;
      each.x.forEach((value, i) => {
        if (each.y[i] !== null && (nearest < 0 || Math.abs(value - x) < Math.abs(each.x[nearest] - x))) nearest = i;
      });
      if (nearest < 0) continue;
      at ??= each.x[nearest];
      const spread = each.spread?.[nearest] ? ` ± ${number(each.spread[nearest])}` : "";
      words.push(`${each.label} ${number(each.y[nearest])}${spread}`);
    }
    const marks = (shown.marks ?? []).filter(mark => Math.abs(scale.x(mark.x) - scale.x(x)) < 4).map(mark => mark.said);
    said.textContent = words.length ? `${shown.xLabel} ${number(at)}: ${[...words, ...marks].join(", ")}` : "";
    svg.querySelector(".cursor")?.remove();
    if (at !== null)
      svg.append(make("line", { class: "cursor", x1: scale.x(at), x2: scale.x(at), y1: TOP, y2: TOP + INNER.height, stroke: "var(--soft)" }));
  }

  function plainSvg() { // with colours for white paper, whatever the page has
    const copy = svg.cloneNode(true), own = document.documentElement.style.colorScheme;
    document.documentElement.style.colorScheme = "light";
    const style = getComputedStyle(probe());
    const colours = new Map();
    for (const name of ["--line", "--soft", "--wrong", ...Array.from({ length: 8 }, (_, i) => `--c${i}`)]) {
      probe().style.color = `var(${name})`;
      colours.set(name, style.color);
    }
    document.documentElement.style.colorScheme = own;
    probe().remove();
    for (const each of copy.querySelectorAll("*"))
      for (const { name, value } of [...each.attributes]) {
        const found = value.match(/^var\((--\w+)\)$/);
        if (found) each.setAttribute(name, colours.get(found[1]));
      }
    copy.setAttribute("xmlns", NAMESPACE);
    copy.setAttribute("width", WIDTH);
    copy.setAttribute("height", HEIGHT);
    copy.setAttribute("font-family", "sans-serif");
    copy.prepend(make("rect", { width: WIDTH, height: HEIGHT, fill: "white" }));
    return new XMLSerializer().serializeToString(copy);
  }

  function probe() {
    return figure.querySelector(".probe") ?? figure.appendChild(Object.assign(document.createElement("i"), { className: "probe" }));
  }

  function saveSvg() {
    save(new Blob([plainSvg()], { type: "image/svg+xml" }), "svg");
  }

  function savePng() {
    const image = new Image(), canvas = document.createElement("canvas");
    canvas.width = 2 * WIDTH;
    canvas.height = 2 * HEIGHT;
    image.onload = () => {
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(blob => save(blob, "png"));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(plainSvg())}`;
  }

  function saveCsv() {
    const rows = [["series", shown.xLabel, "value", "spread"]];
    for (const { label, x, y, spread } of shown.series)
      x.forEach((at, i) => { if (y[i] !== null) rows.push([label, at, y[i], spread?.[i] ?? ""]); });
    const quoted = cell => /[",\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : cell;
    save(new Blob([rows.map(row => row.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" }), "csv");
  }

  function save(blob, ending) {
    const link = document.createElement("a"), address = URL.createObjectURL(blob);
    link.href = address;
    link.download = `${title.replaceAll(/[^\w]+/g, "-").toLowerCase()}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  return {
    show(what) {
      shown = what;
      addLegend();
      draw();
    },
  };
}
