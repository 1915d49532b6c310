// Numbers on an axis: which of them are marked, how they are written, and how wide that is.

export const TEXT = 12; // pixels, of the letters of a chart
const FAMILY = "system-ui, sans-serif";
const pen = document.createElement("canvas").getContext("2d");

export function widthOf(text, size = TEXT, weight = 400) {
  pen.font = `${weight} ${size}px ${FAMILY}`;
  return pen.measureText(text).width * 1.05; // another reader of the file may have wider letters
}

export function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return Number(value.toPrecision(3)).toExponential();
  return size >= 1000 ? Math.round(value).toLocaleString("en-US") : String(Number(value.toPrecision(4)));
}

// Round numbers between two ends as {value, text}, some `count` of them; at least two, but for `whole` numbers in a range
// that has fewer.
export function ticks(low, high, count, { log = false, whole = false } = {}) {
  if (log && high / low >= 5) return powers(low, high).map(value => ({ value, text: number(value) }));
  const rough = (high - low) / count, power = 10 ** Math.floor(Math.log10(rough));
  const round = [1, 2, 5, 10].map(digit => digit * power).find(each => each >= rough * 0.999);
  const step = whole ? Math.max(round, 1) : round, first = Math.ceil(low / step - 1e-9);
  return Array.from({ length: Math.floor(high / step + 1e-9) - first + 1 }, (_, i) => {
    const value = (first + i) * step + 0; // no -0
    return { value, text: spelt(value, step, Math.max(Math.abs(low), Math.abs(high))) };
  });
}

// 1, 2 and 5 of each power of ten; in a wide range the powers, or some of them.
function powers(low, high) {
  const decades = Math.log10(high / low), digits = decades > 2.7 ? [1] : [1, 2, 5], stride = Math.ceil(decades / 8);
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++)
    if (digits.length > 1 || power % stride === 0) for (const digit of digits) found.push(Number(`${digit}e${power}`));
  return found.filter(value => value >= low * 0.999 && value <= high * 1.001);
}

// With as many digits as numbers a step apart need.
function spelt(value, step, largest) {
  const order = Math.floor(Math.log10(step) + 1e-9);
  if (value === 0) return "0";
  if (largest >= 1e7 || largest < 1e-3) return value.toExponential(Math.max(0, Math.floor(Math.log10(Math.abs(value)) + 1e-9) - order));
  const digits = Math.max(0, -order);
  return value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
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

// A text in lines that are no wider than a width.
export function wrapped(text, width, size, weight) {
  const lines = [""];
  for (const word of text.split(/(?<=\s)|(?<=[/_-])/))
    if (lines.at(-1) && widthOf(lines.at(-1) + word.trimEnd(), size, weight) > width) lines.push(word);
    else lines[lines.length - 1] += word;
  return lines.map(line => line.trimEnd());
}
