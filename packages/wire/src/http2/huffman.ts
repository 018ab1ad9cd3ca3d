/**
 * The Huffman code of HPACK (RFC 7541 appendix B). The code is canonical: the lengths alone define it, so that only they
 * are written down here and the codes are computed when the module loads.
 */

/** Length in bits of the code of each byte; the 257th is EOS. */
const lengths = new Uint8Array(
  (
    '13 23 28 28 28 28 28 28 28 24 30 28 28 30 28 28 28 28 28 28 28 28 30 28 28 28 28 28 28 28 28 28 ' +
    '6 10 10 12 13 6 8 11 10 10 8 11 8 6 6 6 5 5 5 6 6 6 6 6 6 6 7 8 15 6 12 10 ' +
    '13 6 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 7 8 7 8 13 19 13 14 6 ' +
    '15 5 6 5 6 5 6 6 6 5 7 7 6 6 6 5 6 7 6 5 5 6 7 7 7 7 7 15 11 14 13 28 ' +
    '20 22 20 20 22 22 22 23 22 23 23 23 23 23 24 23 24 24 22 23 24 23 23 23 23 21 22 23 22 23 23 24 ' +
    '22 21 20 22 22 23 23 21 23 22 22 24 21 22 23 23 21 21 22 21 23 22 23 23 20 22 22 22 23 22 22 23 ' +
    '26 26 20 19 22 23 22 25 26 26 26 27 27 26 24 25 19 21 26 27 27 26 27 24 21 21 26 26 28 27 27 27 ' +
    '20 24 20 21 22 21 21 23 22 22 25 25 24 24 26 23 26 27 26 26 27 27 27 27 27 28 27 27 27 27 27 26 30'
  )
    .split(' ')
    .map(Number),
);
const eos = 256;

const codes = new Uint32Array(257);

/**
 * Decoder: one step per half byte. A code is at least five bits long, so that four bits emit one symbol at most.
 * Entry: next state << 16 | symbol << 4 | flags.
 */
const steps = new Int32Array(256 * 16);
const emits = 1;
const fails = 2;
/** States in which a string may end: at most seven bits of a code begun, all ones (RFC 7541 5.2). */
const mayEnd = new Uint8Array(256);

function build(): void {
  const order = Array.from(lengths.keys()).sort((a, b) => lengths[a] - lengths[b] || a - b);
  let code = 0;
  let length = 0;
  for (const symbol of order) {
    // The shift is at most 30 bits in all, the codes fit in 30 bits.
    code <<= lengths[symbol] - length;
    length = lengths[symbol];
    codes[symbol] = code++;
  }
  // Tree: child >= 0 is an inner node, child < 0 is the leaf of symbol -child - 1.
  const children: number[][] = [[0, 0]];
  for (let symbol = 0; symbol <= eos; symbol++) {
    let node = 0;
    for (let bit = lengths[symbol] - 1; bit > 0; bit--) {
      const side = (codes[symbol] >>> bit) & 1;
      if (children[node][side] === 0) {
        children[node][side] = children.length;
        children.push([0, 0]);
      }
      node = children[node][side];
    }
    children[node][codes[symbol] & 1] = -symbol - 1;
  }
  for (let state = 0; state < children.length; state++) {
    for (let nibble = 0; nibble < 16; nibble++) {
      let node = state;
      let entry = 0;
      for (let bit = 3; bit >= 0; bit--) {
        const next = children[node][(nibble >>> bit) & 1];
        if (next >= 0) {
          node = next;
        } else if (next === -eos - 1) {
          entry = fails;
          break;
        } else {
          entry = ((-next - 1) << 4) | emits;
          node = 0;
        }
      }
      steps[state * 16 + nibble] = (entry & fails) !== 0 ? fails : (node << 16) | entry;
    }
  }
  let node = 0;
  for (let depth = 0; depth <= 7; depth++) {
    mayEnd[node] = 1;
    node = children[node][1];
  }
}
build();

/**
 * Decodes bytes `start..end` of `source` into `target`, which must have room for 8/5 of the input.
 * Returns the number of bytes written, or -1 when the input is no valid Huffman string.
 */
export function huffmanDecode(source: Uint8Array, start: number, end: number, target: Uint8Array): number {
  let state = 0;
  let length = 0;
  for (let i = start; i < end; i++) {
    const byte = source[i];
    let step = steps[state * 16 + (byte >>> 4)];
    if ((step & fails) !== 0) return -1;
    if ((step & emits) !== 0) target[length++] = (step >>> 4) & 0xff;
    step = steps[(step >>> 16) * 16 + (byte & 15)];
    if ((step & fails) !== 0) return -1;
    if ((step & emits) !== 0) target[length++] = (step >>> 4) & 0xff;
    state = step >>> 16;
  }
  return mayEnd[state] === 1 ? length : -1;
}

/**
 * The byte a character is sent as. A head holds latin1 without CR, LF and NUL; should it hold anything else, nothing
 * that means something to a parser may come of it (a cut-off U+010A would be a line feed).
 */
export function wireByte(code: number): number {
  return code > 255 || code === 0 || code === 10 || code === 13 ? 63 : code;
}

/** Bytes the Huffman form of `text` takes. */
export function huffmanLength(text: string): number {
  let bits = 0;
  for (let i = 0; i < text.length; i++) bits += lengths[wireByte(text.charCodeAt(i))];
  return (bits + 7) >>> 3;
}

/** Writes the Huffman form of `text` at `at`; returns the position after it. */
export function huffmanWrite(text: string, target: Uint8Array, at: number): number {
  let pending = 0; // bits not yet written, fewer than eight between symbols
  let count = 0;
  for (let i = 0; i < text.length; i++) {
    const symbol = wireByte(text.charCodeAt(i));
    const code = codes[symbol];
    let length = lengths[symbol];
    if (length > 16) {
      // In two parts, so that at most 7 + 16 bits are pending.
      length -= 16;
      pending = (pending << length) | (code >>> 16);
      count += length;
      while (count >= 8) target[at++] = (pending >>> (count -= 8)) & 0xff;
      pending &= 0xff;
      pending = (pending << 16) | (code & 0xffff);
      count += 16;
    } else {
      pending = (pending << length) | code;
      count += length;
    }
    while (count >= 8) target[at++] = (pending >>> (count -= 8)) & 0xff;
    pending &= 0xff;
  }
  if (count > 0) target[at++] = ((pending << (8 - count)) | (0xff >>> count)) & 0xff;
  return at;
}
