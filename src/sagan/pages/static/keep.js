// Files that a person keeps of a page.

// Saves a file; its name is made of words, such as those of a run and of a figure.
export function keep(blob, words, ending) {
  const link = document.createElement("a"), address = URL.createObjectURL(blob);
  const name = words.map(word => word.replaceAll(/[^\p{L}\p{M}\p{N}_.-]+/gu, "-").replaceAll(/^[-.]+|[-.]+$/g, "")).filter(Boolean);
  link.href = address;
  link.download = `${name.join("-")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10000);
}

// What is on a canvas as PNG, marked as this program's, so that it never becomes a training image.
export async function pngOf(canvas) {
  const blob = await new Promise(done => canvas.toBlob(done, "image/png"));
  return marked(new Uint8Array(await blob.arrayBuffer()), "Software", "sagan");
}

// A PNG with one more text, behind its header.
function marked(png, keyword, text) {
  const words = new TextEncoder().encode(`tEXt${keyword}\0${text}`), chunk = new Uint8Array(words.length + 8);
  const view = new DataView(chunk.buffer), header = 8 + 25;
  view.setUint32(0, words.length - 4);
  chunk.set(words, 4);
  view.setUint32(words.length + 4, checksum(words));
  return new Blob([png.subarray(0, header), chunk, png.subarray(header)], { type: "image/png" });
}

function checksum(data) { // CRC-32
  let rest = 0xffffffff;
  for (const byte of data) {
    rest ^= byte;
    for (let i = 0; i < 8; i++) rest = rest >>> 1 ^ (rest & 1 ? 0xedb88320 : 0);
  }
  return (rest ^ 0xffffffff) >>> 0;
}
