// The latents of sagan/core/latents.py and sagan/core/sampling.py: the same seed and number give the same picture.
//
// A draw is that of torch on the CPU: the Mersenne Twister, and normal numbers by Box and Muller.

// The first 64 bits of BLAKE2b (RFC 7693) of at most 128 bytes, with a digest of 8 bytes, as a BigInt.
function blake2b64(message) {
  const MASK = (1n << 64n) - 1n;
  const IV = [
    0x6a09e667f3bcc908n, 0xbb67ae8584caa73bn, 0x3c6ef372fe94f82bn, 0xa54ff53a5f1d36f1n,
    0x510e527fade682d1n, 0x9b05688c2b3e6c1fn, 0x1f83d9abfb41bd6bn, 0x5be0cd19137e2179n,
  ];
  const SIGMA = [
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15], [14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3],
    [11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4], [7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8],
    [9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13], [2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9],
    [12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11], [13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10],
    [6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5], [10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0],
  ];
  if (message.length > 128) throw new RangeError("a message of one block has at most 128 bytes");
  const block = new DataView(new ArrayBuffer(128));
  message.forEach((byte, i) => block.setUint8(i, byte));
  const first = IV[0] ^ 0x01010000n ^ 8n;
  const v = [first, ...IV.slice(1), ...IV];
  v[12] ^= BigInt(message.length);
  v[14] ^= MASK;
  const turn = (value, bits) => (value >> bits | value << (64n - bits)) & MASK;
  const mix = (a, b, c, d, x, y) => {
    v[a] = (v[a] + v[b] + x) & MASK;
    v[d] = turn(v[d] ^ v[a], 32n);
    v[c] = (v[c] + v[d]) & MASK;
    v[b] = turn(v[b] ^ v[c], 24n);
    v[a] = (v[a] + v[b] + y) & MASK;
    v[d] = turn(v[d] ^ v[a], 16n);
    v[c] = (v[c] + v[d]) & MASK;
    v[b] = turn(v[b] ^ v[c], 63n);
  };
  const COLUMNS = [
    [0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15],
    [0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14],
  ];
  for (let round = 0; round < 12; round++) {
    const words = SIGMA[round % 10].map(i => block.getBigUint64(8 * i, true));
    COLUMNS.forEach((column, i) => mix(...column, words[2 * i], words[2 * i + 1]));
  }
  return first ^ v[0] ^ v[8];
}

// The seed of one stream, as sagan/system/randomness.py derives it.
export function derivedSeed(seed, purpose, step = 0) {
  return blake2b64(new TextEncoder().encode(`${seed}/${purpose}/0/${step}`)) >> 1n;
}

// A torch.Generator on the CPU.
export class Draw {
  #state = new Uint32Array(624);
  #next = 624;
  #kept = null; // the second number of a pair, of draws of fewer than 16

  constructor(seed) {
    this.#state[0] = Number(seed & 0xffffffffn);
    for (let i = 1; i < 624; i++) {
      const last = this.#state[i - 1] ^ this.#state[i - 1] >>> 30;
      this.#state[i] = Math.imul(1812433253, last) + i;
    }
  }

  #bits() {
    const state = this.#state;
    if (this.#next === 624) {
      for (let i = 0; i < 624; i++) {
        const pair = state[i] & 0x80000000 | state[(i + 1) % 624] & 0x7fffffff;
        state[i] = state[(i + 397) % 624] ^ pair >>> 1 ^ (pair & 1 ? 0x9908b0df : 0);
      }
      this.#next = 0;
    }
    let bits = state[this.#next++];
    bits ^= bits >>> 11;
    bits ^= bits << 7 & 0x9d2c5680;
    bits ^= bits << 15 & 0xefc60000;
    return (bits ^ bits >>> 18) >>> 0;
  }

  #double() {
    const high = this.#bits(), low = this.#bits();
    return ((high & 0x1fffff) * 2 ** 32 + low) / 2 ** 53;
  }

  #single() { // torch's normal for one number
    if (this.#kept !== null) {
      const kept = this.#kept;
      this.#kept = null;
      return kept;
    }
    const turn = 2 * Math.PI * this.#double(), length = Math.sqrt(-2 * Math.log1p(-this.#double()));
    this.#kept = length * Math.sin(turn);
    return length * Math.cos(turn);
  }

  #block(values, start) { // 16 numbers at once, from 16 that are uniform
    for (let i = start; i < start + 8; i++) {
      const length = Math.sqrt(-2 * Math.log(1 - values[i])), turn = 2 * Math.PI * values[i + 8];
      values[i] = length * Math.cos(turn);
      values[i + 8] = length * Math.sin(turn);
    }
  }

  // Standard normal numbers, float32.
  normal(count) {
    if (count < 16) return Float32Array.from({ length: count }, () => this.#single());
    const uniform = () => (this.#bits() & 0xffffff) / 2 ** 24;
    const values = Float32Array.from({ length: count }, uniform);
    for (let start = 0; start + 16 <= count; start += 16) this.#block(values, start);
    if (count % 16) { // the last 16 are drawn again
      for (let i = count - 16; i < count; i++) values[i] = uniform();
      this.#block(values, count - 16);
    }
    return values;
  }

  // Those beyond a truncation are drawn again until none is; null truncates nothing.
  truncatedNormal(count, truncation) {
    const values = this.normal(count), beyond = value => Math.abs(value) > Math.fround(truncation);
    while (truncation !== null && values.some(beyond)) {
      const others = this.normal(count);
      values.forEach((value, i) => { if (beyond(value)) values[i] = others[i]; });
    }
    return values;
  }
}

// The latent of a picture by its number.
export function numberedLatent(seed, number, dim, truncation) {
  return new Draw(derivedSeed(seed, "sample", number)).truncatedNormal(dim, truncation);
}

// From one latent to another on the sphere, see sagan/core/latents.py.
export function slerp(start, end, share) {
  const length = vector => Math.hypot(...vector);
  const lengths = [length(start), length(end)], [one, other] = lengths.map(value => Math.max(value, 1e-12));
  const cosine = start.reduce((sum, value, i) => sum + value / one * (end[i] / other), 0);
  const angle = Math.acos(Math.min(Math.max(cosine, -1), 1)), sine = Math.sin(angle);
  if (sine <= 1e-4) return start.map((value, i) => (1 - share) * value + share * end[i]);
  const around = (1 - share) * lengths[0] + share * lengths[1];
  const [first, second] = [Math.sin((1 - share) * angle) / one, Math.sin(share * angle) / other];
  return start.map((value, i) => around * (first * value + second * end[i]) / sine);
}
