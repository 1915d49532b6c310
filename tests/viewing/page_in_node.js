// Runs the script of attention.html on a document that only remembers, and says what a person would see.
// Arguments: the page, then its address' fragment ("#image=1&y=2&x=3"), then keys to press.
"use strict";
const fs = require("fs");
const [page, hash, ...keys] = process.argv.slice(2);
const html = fs.readFileSync(page, "utf8");
const [, data] = html.match(/<script type="application\/json" id="data">([^]*?)<\/script>/);
const [, script] = html.match(/<script type="module">\n([^]*?)<\/script>/);

class Element {
  constructor(tag) {
    Object.assign(this, { tag, children: [], style: {}, attributes: {}, listeners: {}, textContent: "", drawn: [] });
  }
  append(...children) { this.children.push(...children); }
  appendChild(child) { this.children.push(child); return child; }
  replaceChildren(...children) { this.children = children; }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  insertRow() { return this.appendChild(new Element("tr")); }
  insertCell() { return this.appendChild(new Element("td")); }
  get lastChild() { return this.children[this.children.length - 1]; }
  getBoundingClientRect() { return { left: 0, top: 0, width: 208, height: 208 }; }
  getContext() {
    const canvas = this;
    return this.context ||= {
      canvas,
      createImageData: (width, height) => ({ data: new Uint8ClampedArray(4 * width * height) }),
      putImageData: image => { canvas.image = Array.from(image.data); },
      drawImage: source => { canvas.drawn.push(source); },
      beginPath() {}, arc() {}, stroke() {}, strokeRect() {}, setLineDash() {},
    };
  }
}

const named = {};
const listeners = {};
const document = {
  getElementById: id => named[id] ||= new Element(id),
  createElement: tag => new Element(tag),
  addEventListener: (name, listener) => { listeners[name] = listener; },
};
document.getElementById("data").textContent = data;
new Function("document", "location", script.replace(/^export /gm, ""))(document, { hash });
for (const key of keys) listeners.keydown({ key, preventDefault() {} });

const panels = named.exhibits.children.filter(child => child.tag === "div").flatMap(row => row.children);
console.log(JSON.stringify({
  titles: panels.map(panel => panel.children[0].textContent),
  said: panels.map(panel => panel.children[2].textContent),
  light: panels.map(panel => { const { width, image } = panel.children[1].drawn.at(-1); return { width, image }; }),
  table: named.layers.children.map(row => row.children.map(cell => cell.textContent)),
  pictures: named.pictures.children.length,
}));
