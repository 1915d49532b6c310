// Curves as SVG: hover values, a logarithmic axis, smoothing, marks, and files of what is shown (PNG, SVG, CSV).

const HEIGHT = 280, LEFT = 62, RIGHT = 14, TOP = 10, BOTTOM = 40;
const LETTER = 6.8, TEXT = 12; // the width of a letter of a label, and its height
const NAMESPACE = "http://www.w3.org/2000/svg";

function make(tag, attributes = {}, text = "") {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

function label(text, x, y, attributes = {}) {
  return make("text", { x, y, fill: "var(--soft)", "font-size": TEXT, ...attributes }, text);
}

export function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(2);
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
}

// Round numbers between two ends, some `count` of them; of a logarithmic axis 1, 2 and 5 of each power of ten, where
// there are several of them.
export function ticks(low, high, count, log = false) {
  if (log) {
    const found = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
      for (const digit of [1, 2, 5]) found.push(digit * 10 ** power);
    const inside = found.filter(value => value >= low * 0.999 && value <= high * 1.001);
    if (inside.length > 8) return inside.filter(value => Math.log10(value) % 1 === 0);
    if (inside.length > 2) return inside;
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

// A figure in `parent`; `of`: what it is of, such as a run's name, for its files. `show({series, marks, lines, log,
// smooth, xLabel, whole, least})` draws it anew: series are {label, x, y, low, high, spread, dots}, low and high being
// the extremes of the records that each point is the mean of, marks {x, said, kind}, lines {y, label}; no value is below
// `least`.
export function plot(parent, title, of = "") {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const said = document.createElement("div"), legend = document.createElement("div"), files = document.createElement("div");
  const note = document.createElement("div"), svg = make("svg", { role: "img", "aria-label": title, tabindex: "0" });
  const hidden = new Set();
  let shown = null, scale = null, width = 640, cursor = null;
  figure.className = "curve";
  caption.textContent = title;
  said.className = "said";
  note.className = "soft small";
  said.setAttribute("aria-live", "polite");
  legend.className = files.className = "choices small";
  figure.append(caption, svg, said, note, legend, files);
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

  const drawable = value => value !== null && value !== undefined && Number.isFinite(value) && !(shown.log && value <= 0);

  // The ends of the interval around a point, as far as the axis has them.
  function interval(each, i) {
    const least = shown.log ? Number.MIN_VALUE : shown.least ?? -Infinity;
    return [Math.max(each.y[i] - each.spread[i], least), each.y[i] + each.spread[i]];
  }

  function scales() {
    const xs = [], ys = [];
    for (const each of visible())
      each.x.forEach((at, i) => {
        if (!drawable(each.y[i])) return;
        xs.push(at);
        ys.push(each.y[i], ...[each.low?.[i], each.high?.[i]].filter(drawable));
        if (each.spread?.[i] && !shown.log) ys.push(...interval(each, i));
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
    const inner = { width: width - LEFT - RIGHT, height: HEIGHT - TOP - BOTTOM };
    return {
      left, right, low, high, inner,
      x: value => LEFT + inner.width * (value - left) / (right - left),
      y: value => TOP + inner.height * (vertical(high) - vertical(Math.max(value, shown.log ? low : value))) / (vertical(high) - vertical(low)),
      at: across => left + (across - LEFT) / inner.width * (right - left),
    };
  }

  function draw() {
    width = Math.round(figure.clientWidth) || width;
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren();
    cursor = null;
    scale = scales();
    if (!scale) {
      svg.append(label("nothing yet", width / 2, HEIGHT / 2, { "text-anchor": "middle" }));
      return;
    }
    const right = width - RIGHT, bottom = HEIGHT - BOTTOM;
    svg.append(make("title", {}, title));
    for (const value of ticks(scale.low, scale.high, 5, shown.log)) {
      const y = scale.y(value);
      svg.append(make("line", { x1: LEFT, x2: right, y1: y, y2: y, stroke: "var(--line)" }));
      svg.append(label(number(value), LEFT - 6, y + 4, { "text-anchor": "end" }));
    }
    let taken = 0; // up to where labels below the axis reach
    for (const value of ticks(scale.left, scale.right, Math.min(5, scale.inner.width / 90))) {
      if (shown.whole && !Number.isInteger(value)) continue;
      const text = number(value), half = text.length * LETTER / 2, middle = Math.min(scale.x(value), width - half);
      if (middle - half < taken) continue;
      taken = middle + half + LETTER;
      svg.append(label(text, middle, bottom + 18, { "text-anchor": "middle" }));
    }
    svg.append(label(shown.xLabel, LEFT + scale.inner.width / 2, HEIGHT - 4, { "text-anchor": "middle" }));
    for (const { x, said: words, kind } of shown.marks ?? []) {
      if (x < scale.left || x > scale.right) continue;
      const line = make("line", { x1: scale.x(x), x2: scale.x(x), y1: TOP, y2: bottom, stroke: "var(--wrong)", "stroke-dasharray": kind === "guard" ? "1 4" : "none", opacity: 0.7 });
      line.append(make("title", {}, words));
      svg.append(line);
    }
    const spread = visible().filter(each => each.spread);
    shown.series.forEach((each, i) => {
      if (hidden.has(each.label)) return;
      const colour = `var(--c${i % 8})`;
      if (each.low) svg.append(band(each, colour));
      else if (shown.smooth) svg.append(line(each, each.y, { stroke: colour, opacity: 0.25 }));
      svg.append(line(each, shown.smooth ? smoothed(each.y, shown.smooth) : each.y, { stroke: colour, "stroke-width": 1.6 }));
      const aside = spread.length > 1 ? 5 * (spread.indexOf(each) - (spread.length - 1) / 2) : 0; // so that intervals do not cover each other
      each.x.forEach((x, k) => {
        if (!drawable(each.y[k])) return;
        if (each.spread?.[k]) {
          const [low, high] = interval(each, k);
          svg.append(make("line", { x1: scale.x(x) + aside, x2: scale.x(x) + aside, y1: scale.y(low), y2: scale.y(high), stroke: colour, "stroke-width": 1.4 }));
        }
        if (each.dots) svg.append(make("circle", { cx: scale.x(x) + (each.spread?.[k] ? aside : 0), cy: scale.y(each.y[k]), r: 3, fill: colour }));
      });
    });
    for (const { y, label: words } of shown.lines ?? []) {
      if (y < scale.low || y > scale.high) continue;
      svg.append(make("line", { x1: LEFT, x2: right, y1: scale.y(y), y2: scale.y(y), stroke: "var(--soft)", "stroke-dasharray": "2 3" }));
      const above = scale.y(y) - 5 < TOP + TEXT ? TEXT + 2 : -5;
      svg.append(label(words, right, scale.y(y) + above, { "text-anchor": "end", stroke: "var(--paper)", "stroke-width": 4, "paint-order": "stroke" }));
    }
    const missing = shown.log ? visible().filter(each => each.y.some(value => value !== null && value <= 0)).map(each => each.label) : [];
    note.hidden = !missing.length;
    note.textContent = missing.length ? `Values of 0 and less are not on a logarithmic axis: ${missing.join(", ")}.` : "";
  }

  // Lines through the values; between two gaps even a single one is seen.
  function line(each, values, attributes) {
    const parts = [[]];
    values.forEach((value, i) => {
      if (drawable(value)) parts.at(-1).push(`${scale.x(each.x[i]).toFixed(1)} ${scale.y(value).toFixed(1)}`);
      else parts.push([]);
    });
    const path = parts.filter(part => part.length).map(part => `M${part.join("L")}${part.length === 1 ? "h.01" : ""}`).join("");
    return make("path", { d: path, fill: "none", "stroke-linecap": "round", "stroke-linejoin": "round", ...attributes });
  }

  // From the least to the largest of the records that each point is the mean of.
  function band(each, colour) {
    const there = each.x.map((_, i) => i).filter(i => drawable(each.high[i]) && each.low[i] !== null);
    const point = (i, value) => `${scale.x(each.x[i]).toFixed(1)} ${scale.y(value).toFixed(1)}`;
    const around = [...there.map(i => point(i, each.high[i])), ...there.reverse().map(i => point(i, each.low[i]))];
    return make("path", { class: "band", d: around.length ? `M${around.join("L")}Z` : "", fill: colour, opacity: 0.2 });
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

  // ---- values: by a pointer, a touch or the arrow keys

  function under(event) {
    if (!scale) return;
    const box = svg.getBoundingClientRect();
    read(scale.at((event.clientX - box.left) / box.width * width));
  }

  svg.addEventListener("pointermove", under);
  svg.addEventListener("pointerdown", under);
  svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") forget(); });
  svg.addEventListener("blur", forget);
  svg.addEventListener("keydown", event => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") forget();
    if (!way || !scale) return;
    event.preventDefault();
    const places = [...new Set(visible().flatMap(each => each.x))].sort((a, b) => a - b);
    const now = cursor === null ? (way > 0 ? -1 : places.length) : places.findIndex(each => each >= cursor);
    read(places[Math.min(Math.max(now + way, 0), places.length - 1)]);
  });

  function forget() {
    said.textContent = "";
    cursor = null;
    svg.querySelector(".cursor")?.remove();
  }

  // Says the values nearest to a place, and marks it.
  function read(x) {
    const words = [];
    cursor = null;
    for (const each of visible()) {
      let nearest = -1;
      each.x.forEach((value, i) => {
        if (each.y[i] !== null && (nearest < 0 || Math.abs(value - x) < Math.abs(each.x[nearest] - x))) nearest = i;
      });
      if (nearest < 0) continue;
      cursor ??= each.x[nearest];
      const spread = each.spread?.[nearest] ? ` ± ${number(each.spread[nearest])}` : "";
      const extremes = each.low ? ` (${number(each.low[nearest])} to ${number(each.high[nearest])})` : "";
      words.push(`${each.label} ${number(each.y[nearest])}${spread}${extremes}`);
    }
    const marks = (shown.marks ?? []).filter(mark => Math.abs(scale.x(mark.x) - scale.x(x)) < 4).map(mark => mark.said);
    said.textContent = words.length ? `${shown.xLabel} ${number(cursor)}: ${[...words, ...marks].join(", ")}` : "";
    svg.querySelector(".cursor")?.remove();
    if (cursor !== null)
      svg.append(make("line", { class: "cursor", x1: scale.x(cursor), x2: scale.x(cursor), y1: TOP, y2: HEIGHT - BOTTOM, stroke: "var(--soft)" }));
  }

  // ---- files, which are shown alone: with a title and a legend, in colours for white paper

  // The lines of the legend, each of entries {text, i, x}; i is the number of a series.
  function legendLines() {
    const lines = [[]];
    let x = LEFT;
    shown.series.forEach((each, i) => {
      if (hidden.has(each.label)) return;
      const room = 34 + each.label.length * LETTER;
      if (x + room > width && lines.at(-1).length) {
        lines.push([]);
        x = LEFT;
      }
      lines.at(-1).push({ text: each.label, i, x });
      x += room;
    });
    return lines;
  }

  function plainSvg() {
    const lines = legendLines(), above = 30 + 18 * lines.length, whole = above + HEIGHT;
    const file = make("svg", { xmlns: NAMESPACE, viewBox: `0 0 ${width} ${whole}`, width, height: whole, "font-family": "sans-serif" });
    const figure = make("g", { transform: `translate(0 ${above})` });
    figure.append(...[...svg.cloneNode(true).children].filter(each => !each.classList.contains("cursor")));
    file.append(make("rect", { width, height: whole, fill: "var(--paper)" }));
    file.append(label([of, title].filter(Boolean).join(": "), LEFT, 20, { "font-weight": "bold", fill: "var(--ink)" }));
    lines.forEach((entries, row) => {
      for (const { text, i, x } of entries) {
        const y = 36 + 18 * row;
        file.append(make("line", { x1: x, x2: x + 16, y1: y - 4, y2: y - 4, stroke: `var(--c${i % 8})`, "stroke-width": 3 }));
        file.append(label(text, x + 22, y, { fill: "var(--ink)" }));
      }
    });
    file.append(figure);
    const colours = lightColours();
    for (const each of file.querySelectorAll("*"))
      for (const { name, value } of [...each.attributes]) {
        const found = value.match(/^var\((--\w+)\)$/);
        if (found) each.setAttribute(name, colours.get(found[1]));
      }
    return { text: new XMLSerializer().serializeToString(file), height: whole };
  }

  function lightColours() {
    const root = document.documentElement, own = root.style.colorScheme, probe = document.createElement("i");
    root.style.colorScheme = "light";
    root.append(probe);
    const names = ["--line", "--soft", "--wrong", "--paper", "--ink", ...Array.from({ length: 8 }, (_, i) => `--c${i}`)];
    const colours = new Map(names.map(name => {
      probe.style.color = `var(${name})`;
      return [name, getComputedStyle(probe).color];
    }));
    probe.remove();
    root.style.colorScheme = own;
    return colours;
  }

  function saveSvg() {
    save(new Blob([plainSvg().text], { type: "image/svg+xml" }), "svg");
  }

  function savePng() {
    const { text, height } = plainSvg(), image = new Image(), canvas = document.createElement("canvas");
    canvas.width = 2 * width;
    canvas.height = 2 * height;
    image.onload = () => {
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(blob => save(blob, "png"));
    };
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(text)}`;
  }

  function saveCsv() {
    const means = shown.series.some(each => each.low);
    const rows = [["series", shown.xLabel, means ? "mean" : "value", means ? "least,largest" : "spread"].join(",")];
    const quoted = cell => /[",\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : cell;
    for (const each of shown.series)
      each.x.forEach((at, i) => {
        const more = means ? [each.low?.[i] ?? "", each.high?.[i] ?? ""] : [each.spread?.[i] ?? ""];
        if (each.y[i] !== null) rows.push([each.label, at, each.y[i], ...more].map(quoted).join(","));
      });
    save(new Blob([`${rows.join("\n")}\n`], { type: "text/csv" }), "csv");
  }

  function save(blob, ending) {
    const link = document.createElement("a"), address = URL.createObjectURL(blob);
    link.href = address;
    link.download = `${[of, title].join("-").replaceAll(/[^\w]+/g, "-").replaceAll(/^-+|-+$/g, "").toLowerCase()}.${ending}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(address), 10000);
  }

  new ResizeObserver(() => { if (shown && Math.abs(figure.clientWidth - width) > 1) draw(); }).observe(figure);
  return {
    show(what) {
      shown = what;
      addLegend();
      draw();
    },
  };
}
