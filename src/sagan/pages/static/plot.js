// Curves on a page: hover values, a logarithmic axis, smoothing, marks, and files of what is shown (PNG, SVG, CSV).

import { number } from "./axis.js";
import { chart, lacking, linesOf, make, sheet } from "./chart.js";
import { keep, pngOf } from "./keep.js";

export { number };

// A figure in `parent`, of a run or a sweep of the name `of`. `show(what)` draws it anew, see chart.js.
export function plot(parent, title, of) {
  const figure = document.createElement("figure"), caption = document.createElement("figcaption");
  const said = document.createElement("div"), legend = document.createElement("div"), files = document.createElement("div");
  const note = document.createElement("div"), svg = make("svg", { role: "img", "aria-label": title, tabindex: "0" });
  const hidden = new Set();
  let shown = null, scale = null, cursor = null, width = 0;
  figure.className = "curve";
  caption.textContent = title;
  said.className = "said";
  said.setAttribute("aria-live", "polite");
  note.className = "soft small";
  legend.className = files.className = "choices small";
  figure.append(caption, svg, said, legend, note, files);
  parent.append(figure);
  new ResizeObserver(() => { if (shown && figure.clientWidth !== width) draw(); }).observe(figure);

  for (const [kind, save] of [["PNG", savePng], ["SVG", saveSvg], ["CSV", saveCsv]]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.setAttribute("aria-label", `${title} as ${kind}`);
    button.addEventListener("click", save);
    files.append(button);
  }

  function visible() {
    return { ...shown, series: shown.series.filter(each => !hidden.has(each.label)) };
  }

  function draw() { // at the width that there is, so that letters have their size
    width = figure.clientWidth;
    if (!width) return;
    const drawn = chart(visible(), width);
    scale = drawn.scale;
    svg.setAttribute("viewBox", `0 0 ${width} ${drawn.height}`);
    svg.replaceChildren(make("title", {}, title), drawn.group);
    note.textContent = lacking(visible());
    addLegend();
    if (cursor !== null && scale) read(cursor);
  }

  function addLegend() {
    const buttons = shown.series.map(({ label, colour }) => {
      const button = document.createElement("button"), dot = document.createElement("span");
      button.type = "button";
      button.setAttribute("aria-pressed", String(!hidden.has(label)));
      dot.className = `dot c${colour % 8}`;
      button.append(dot, label);
      button.addEventListener("click", () => {
        if (!hidden.delete(label)) hidden.add(label);
        draw();
        [...legend.children].find(each => each.textContent === label).focus();
      });
      return button;
    });
    const lines = linesOf(shown, scale).map(text => {
      const key = document.createElement("span"), sample = document.createElement("span");
      sample.className = "dotted";
      key.append(sample, text);
      return key;
    });
    const now = [...buttons.length > 1 ? buttons : [], ...lines], same = now.length === legend.children.length;
    if (!same || now.some((each, i) => each.outerHTML !== legend.children[i].outerHTML)) legend.replaceChildren(...now);
    legend.hidden = !now.length;
  }

  // ---- values under the pointer, or beside the last ones by arrow keys

  for (const name of ["pointermove", "pointerdown"])
    svg.addEventListener(name, event => { if (scale) read(scale.at(event.clientX - svg.getBoundingClientRect().left)); });
  svg.addEventListener("pointerleave", event => { if (event.pointerType === "mouse") leave(); });
  svg.addEventListener("blur", leave);
  svg.addEventListener("keydown", event => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") leave();
    if (!way || !scale) return;
    event.preventDefault();
    const places = [...new Set(visible().series.flatMap(each => each.x.filter((_, i) => each.y[i] !== null)))].sort((a, b) => a - b);
    const now = cursor ?? (way > 0 ? -Infinity : Infinity);
    read((way > 0 ? places.find(x => x > now) : places.findLast(x => x < now)) ?? now);
  });

  function leave() {
    cursor = null;
    said.textContent = "";
    svg.querySelector(".cursor")?.remove();
  }

  // Says the values nearest to a place, and marks it.
  function read(x) {
    const words = [];
    let at = null;
    for (const each of visible().series) {
      let nearest = -1;
      each.x.forEach((value, i) => {
        if (each.y[i] !== null && (nearest < 0 || Math.abs(value - x) < Math.abs(each.x[nearest] - x))) nearest = i;
      });
      if (nearest < 0) continue;
      at ??= each.x[nearest];
      const spread = each.spread?.[nearest] ? ` ± ${number(each.spread[nearest])}` : "";
      const band = each.low ? ` (${number(each.low[nearest])} to ${number(each.high[nearest])})` : "";
      words.push(`${each.label} ${number(each.y[nearest])}${spread}${band}`);
    }
    const marks = (shown.marks ?? []).filter(mark => Math.abs(scale.x(mark.x) - scale.x(x)) < 4).map(mark => mark.said);
    said.textContent = words.length ? `${shown.xLabel} ${number(at)}: ${[...words, ...marks].join(", ")}` : "";
    svg.querySelector(".cursor")?.remove();
    cursor = at;
    if (at === null) return;
    const { top, bottom } = scale.box;
    svg.append(make("line", { class: "cursor", x1: scale.x(at), x2: scale.x(at), y1: top, y2: bottom, stroke: "var(--soft)" }));
  }

  // ---- files

  function paper() { // with colours for white paper, whatever the page has
    const svg = sheet(title, of, visible()), probe = document.createElement("i");
    probe.style.colorScheme = "light";
    figure.append(probe);
    for (const each of [svg, ...svg.querySelectorAll("*")])
      for (const { name, value } of [...each.attributes]) {
        if (!/^var\(--\w+\)$/.test(value)) continue;
        probe.style.color = value;
        each.setAttribute(name, getComputedStyle(probe).color);
      }
    probe.remove();
    return svg;
  }

  function saveSvg() {
    keep(new Blob([new XMLSerializer().serializeToString(paper())], { type: "image/svg+xml" }), [of, title.toLowerCase()], "svg");
  }

  async function savePng() {
    const svg = paper(), image = new Image(), canvas = document.createElement("canvas");
    canvas.width = 2 * svg.getAttribute("width");
    canvas.height = 2 * svg.getAttribute("height");
    image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
    await image.decode();
    canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
    keep(await pngOf(canvas), [of, title.toLowerCase()], "png");
  }

  function saveCsv() {
    const means = shown.series.some(each => each.low);
    const rows = [["series", shown.xLabel, ...means ? ["mean", "low", "high"] : ["value", "spread"]]];
    for (const { label, x, y, spread, low, high } of shown.series)
      x.forEach((at, i) => {
        if (y[i] !== null) rows.push([label, at, y[i], ...means ? [low[i], high[i]] : [spread?.[i] ?? ""]]);
      });
    const quoted = cell => /[",\n]/.test(cell) ? `"${String(cell).replaceAll('"', '""')}"` : cell;
    keep(new Blob([rows.map(row => row.map(quoted).join(",")).join("\n") + "\n"], { type: "text/csv" }), [of, title.toLowerCase()], "csv");
  }

  return {
    show(what) {
      shown = { ...what, series: what.series.map((each, colour) => ({ ...each, colour })) };
      draw();
    },
  };
}
