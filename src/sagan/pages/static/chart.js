// A chart as SVG. What it shows: {series, lines, marks, log, smooth, xLabel, yLabel, whole, least, notes}. Series are {label,
// colour, x, y} with `spread` (half of an interval), or with `low` and `high` (the extremes of the records that each point is
// the mean of), and `dots`; lines {y, label}; marks {x, said, kind}. `whole`: x has whole numbers only; `least`: no value can
// be below; `notes`: sentences for a reader who has the chart alone.

import { TEXT, number, smoothed, ticks, widthOf, wrapped } from "./axis.js";

const HEIGHT = 290, TOP = 26, BOTTOM = 42, APART = 10; // pixels between the labels of two ticks
const SHEET = 800, MARGIN = 16; // of a file
const NAMESPACE = "http://www.w3.org/2000/svg";
const LINE = "2 3"; // the dashes of a line

export function make(tag, attributes = {}, text = "") {
  const element = document.createElementNS(NAMESPACE, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.textContent = text;
  return element;
}

// A group of some width with the chart, its height, and the scale that it is drawn by; null where there is nothing to show.
export function chart(what, width) {
  const group = make("g", { "font-size": TEXT, "font-family": "system-ui, sans-serif", fill: "var(--soft)" });
  const scale = scaleOf(what, width);
  if (!scale) {
    const text = missing(what).length ? "no value above 0" : "nothing yet";
    group.append(make("text", { x: width / 2, y: HEIGHT / 2, "text-anchor": "middle" }, text));
    return { group, height: HEIGHT, scale };
  }
  const { left, right, top, bottom } = scale.box;
  for (const { value, text } of scale.rows) {
    const y = scale.y(value);
    group.append(make("line", { x1: left, x2: right, y1: y, y2: y, stroke: "var(--line)" }));
    group.append(make("text", { class: "tick", x: left - 6, y: y + 4, "text-anchor": "end" }, text));
  }
  for (const { value, text } of scale.columns)
    group.append(make("text", { class: "tick", x: scale.x(value), y: bottom + 18, "text-anchor": "middle" }, text));
  group.append(make("text", { x: 2, y: 13 }, what.yLabel));
  group.append(make("text", { x: (left + right) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, what.xLabel));
  for (const { y } of (what.lines ?? []).filter(each => inside(scale, each.y)))
    group.append(make("line", { x1: left, x2: right, y1: scale.y(y), y2: scale.y(y), stroke: "var(--soft)", "stroke-dasharray": LINE }));
  for (const { x, said, kind } of what.marks ?? []) {
    if (x < scale.first || x > scale.last) continue;
    const dashes = kind === "guard" ? "1 4" : "none";
    const line = make("line", { x1: scale.x(x), x2: scale.x(x), y1: top, y2: bottom, stroke: "var(--wrong)", "stroke-dasharray": dashes, opacity: 0.7 });
    line.append(make("title", {}, said));
    group.append(line);
  }
  what.series.forEach(each => addSeries(group, what, each, scale));
  return { group, height: HEIGHT, scale };
}

function addSeries(group, what, each, scale) {
  const colour = `var(--c${each.colour % 8})`, smooth = what.smooth && !each.dots;
  if (each.low) group.append(make("path", { class: "band", d: band(what, each, scale), fill: colour, opacity: 0.18 }));
  else if (smooth) group.append(make("path", { d: line(what, each, each.y, scale), fill: "none", stroke: colour, opacity: 0.25 }));
  const values = smooth ? smoothed(each.y, what.smooth) : each.y;
  group.append(make("path", { d: line(what, each, values, scale), fill: "none", stroke: colour, "stroke-width": 1.6, "stroke-linecap": "round", "stroke-linejoin": "round" }));
  if (!each.dots) return;
  each.y.forEach((y, i) => {
    if (!shows(what, y)) return;
    const x = scale.x(each.x[i]) + scale.beside(each), ends = each.spread?.[i] ? reach(what, each, i) : null;
    if (ends) {
      group.append(make("line", { class: "interval", x1: x, x2: x, y1: scale.y(ends[0]), y2: scale.y(ends[1]), stroke: colour }));
      for (const end of ends.filter(end => end > scale.low && end !== what.least))
        group.append(make("line", { x1: x - 3, x2: x + 3, y1: scale.y(end), y2: scale.y(end), stroke: colour }));
    }
    group.append(make("circle", { cx: x, cy: scale.y(y), r: 3, fill: colour }));
  });
}

// Lines through the values; between two gaps even a single one is seen.
function line(what, each, values, scale) {
  const parts = [[]];
  values.forEach((value, i) => {
    if (!shows(what, value)) parts.push([]);
    else parts.at(-1).push(`${(scale.x(each.x[i]) + scale.beside(each)).toFixed(1)} ${scale.y(value).toFixed(1)}`);
  });
  return parts.filter(part => part.length).map(part => `M${part.join("L")}${part.length === 1 ? "h.01" : ""}`).join("");
}

function band(what, each, scale) {
  const parts = [[]];
  each.x.forEach((x, i) => {
    if (each.high[i] === null || (what.log && each.high[i] <= 0)) parts.push([]);
    else parts.at(-1).push([scale.x(x), scale.y(each.low[i]), scale.y(each.high[i])]);
  });
  const point = (x, y) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  return parts.filter(part => part.length).map(part => {
    const above = part.map(([x, , high]) => point(x, high)), below = part.map(([x, low]) => point(x, low));
    return `M${[...above, ...below.reverse()].join("L")}Z`;
  }).join("");
}

function shows(what, value) {
  return value !== null && Number.isFinite(value) && (!what.log || value > 0);
}

// From where to where the interval or the band at a point reaches; null without one.
function reach(what, each, i) {
  const { y, spread, low, high } = each;
  if (spread?.[i]) return [Math.max(y[i] - spread[i], what.least ?? -Infinity), y[i] + spread[i]];
  return low && low[i] !== null ? [low[i], high[i]] : null;
}

function inside(scale, y) {
  return y >= scale.low && y <= scale.high;
}

// ---- the scale

function scaleOf(what, width) {
  const range = rangeOf(what);
  if (!range) return null;
  const { first, last, low, high } = range, vertical = what.log ? Math.log : value => value;
  const rows = ticks(low, high, 5, { log: what.log }), dodged = what.series.filter(each => each.spread?.some(Boolean));
  const widest = found => Math.max(0, ...found.map(({ text }) => widthOf(text)));
  const aside = what.series.some(each => each.dots) ? 4 + 4 * dodged.length : 0; // room for dots beside the ends
  for (let count = 6; count > 0; count--) {
    const columns = ticks(first, last, count, { whole: what.whole });
    const left = Math.max(widest(rows) + 8, widest(columns) / 2 + 2), right = width - Math.max(12, widest(columns) / 2 + 2);
    const x = value => left + aside + (right - left - 2 * aside) * (value - first) / (last - first);
    const fits = columns.every(({ value, text }, i) => {
      const before = columns[i - 1];
      return !before || x(value) - x(before.value) >= (widthOf(text) + widthOf(before.text)) / 2 + APART;
    });
    if (!fits && count > 1) continue;
    const box = { left, right, top: TOP, bottom: HEIGHT - BOTTOM };
    const y = value => {
      if (what.log && value <= 0) return box.bottom;
      const share = (vertical(high) - vertical(value)) / (vertical(high) - vertical(low));
      return Math.min(box.top + (box.bottom - box.top) * share, box.bottom);
    };
    const at = value => first + (value - left - aside) * (last - first) / (right - left - 2 * aside); // the x of a place
    return { ...range, box, rows, columns: fits ? columns : columns.slice(0, 1), x, y, at, beside: beside(dodged, x) };
  }
  return null;
}

// How far the dots of a series stand beside their x, so that intervals of several series do not cover each other.
function beside(dodged, x) {
  const places = [...new Set(dodged.flatMap(each => each.x))].sort((a, b) => a - b).map(x);
  const gap = Math.min(...places.slice(1).map((place, i) => place - places[i]), Infinity);
  const step = Math.min(8, 0.7 * gap / Math.max(dodged.length, 1));
  return each => dodged.includes(each) ? (dodged.indexOf(each) - (dodged.length - 1) / 2) * step : 0;
}

function rangeOf(what) {
  let [first, last, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  const widen = value => { if (shows(what, value)) [low, high] = [Math.min(low, value), Math.max(high, value)]; };
  for (const each of what.series)
    each.y.forEach((y, i) => {
      if (!shows(what, y)) return;
      [first, last] = [Math.min(first, each.x[i]), Math.max(last, each.x[i])];
      widen(y);
      const ends = reach(what, each, i);
      if (!ends) return;
      widen(what.log && each.spread ? Math.max(ends[0], y / 10) : ends[0]); // an end near 0 is far down
      widen(ends[1]);
    });
  if (first > last) return null;
  for (const { y } of what.lines ?? []) if (y > low - (high - low) && y < high + (high - low)) widen(y);
  if (first === last) [first, last] = [first - 1, last + 1];
  if (high - low <= 1e-9 * Math.max(Math.abs(low), Math.abs(high))) // as good as one value
    [low, high] = what.log ? [low / 2, high * 2] : [low - Math.abs(low || 1) / 2, high + Math.abs(high || 1) / 2];
  const room = what.log ? (high / low) ** 0.04 : (high - low) * 0.04;
  [low, high] = what.log ? [low / room, high * room] : [low - room, high + room];
  if (what.least !== undefined && !what.log) low = Math.max(low, Math.min(what.least, low + room));
  return { first, last, low, high };
}

// ---- in words

// The lines with their values, also of those that lie outside.
export function linesOf(what, scale) {
  return (what.lines ?? []).map(({ y, label }) => {
    const out = !scale || inside(scale, y) ? "" : `, ${y < scale.low ? "below" : "above"} what is shown`;
    return `${label}: ${number(y)}${out}`;
  });
}

function missing(what) {
  if (!what.log) return [];
  return what.series.flatMap(({ label, y }) => {
    const known = y.filter(value => value !== null), none = known.filter(value => value <= 0).length;
    if (!none) return [];
    return [`${label} (${none === known.length ? "all" : number(none)} of ${number(known.length)} points)`];
  });
}

// What the axis cannot show.
export function lacking(what) {
  const none = missing(what);
  return none.length ? `Values of 0 and less are not on a logarithmic axis: ${none.join(", ")}.` : "";
}

// ---- alone

const MOST_MARKS = 8; // that a sheet tells

// The chart with all that says what it shows: to be kept. Colours are var(--name).
export function sheet(title, of, what) {
  const svg = make("svg", { xmlns: NAMESPACE, "font-family": "system-ui, sans-serif", fill: "var(--ink)" });
  const { group, height, scale } = chart(what, SHEET - 2 * MARGIN);
  let y = MARGIN - 4;
  const write = (text, size, weight, fill) => {
    for (const line of wrapped(text, SHEET - 2 * MARGIN, size, weight)) {
      y += Math.round(size * 1.35);
      svg.append(make("text", { x: MARGIN, y, "font-size": size, "font-weight": weight, fill }, line));
    }
  };
  write(`${of}: ${title}`, 16, 600, "var(--ink)");
  group.setAttribute("transform", `translate(${MARGIN} ${y + 12})`);
  svg.append(group);
  y += 12 + height + 8;
  let x = Infinity;
  const key = (text, sample) => {
    const width = 22 + widthOf(text, 13) + 18;
    if (x + width > SHEET - MARGIN) [x, y] = [MARGIN, y + 19];
    svg.append(make("line", { x1: x, x2: x + 16, y1: y - 4, y2: y - 4, ...sample }), make("text", { x: x + 22, y, "font-size": 13 }, text));
    x += width;
  };
  for (const { label, colour } of what.series) key(label, { stroke: `var(--c${colour % 8})`, "stroke-width": 3 });
  for (const text of linesOf(what, scale)) key(text, { stroke: "var(--soft)", "stroke-dasharray": LINE });
  y += 4;
  const notes = [lacking(what), ...what.notes ?? []].filter(Boolean), marks = (what.marks ?? []).filter(({ x }) => scale && x >= scale.first && x <= scale.last);
  if (what.smooth && what.series.some(each => !each.dots)) notes.push(`Smoothed: an exponential moving average that keeps ${what.smooth} of what was before.`);
  for (const { x, said } of marks.slice(0, MOST_MARKS)) notes.push(`Red line at ${what.xLabel} ${number(x)}: ${said}`);
  if (marks.length > MOST_MARKS) notes.push(`Red lines: ${marks.length - MOST_MARKS} more.`);
  for (const note of notes) write(note, TEXT, 400, "var(--soft)");
  y += MARGIN;
  for (const [name, value] of Object.entries({ width: SHEET, height: y, viewBox: `0 0 ${SHEET} ${y}` })) svg.setAttribute(name, value);
  svg.prepend(make("title", {}, `${of}: ${title}`), make("rect", { width: SHEET, height: y, fill: "white" }));
  return svg;
}
