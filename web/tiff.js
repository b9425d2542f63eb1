/**
 * Reads TIFF files of one flat image: strips or tiles, of integers or floats.
 *
 * https://www.itu.int/itudoc/itu-t/com16/tiff-fx/docs/tiff6.pdf
 */

import { inflate } from "./deflate.js";
import { userError } from "./errors.js";

const SIZES = { 1: 1, 2: 1, 3: 2, 4: 4 }; // bytes of a number of a field, by its type
const TAG = {
  width: 256,
  height: 257,
  bits: 258,
  compression: 259,
  photometric: 262,
  description: 270,
  strips: 273,
  orientation: 274,
  samples: 277,
  stripRows: 278,
  stripBytes: 279,
  planar: 284,
  predictor: 317,
  tileWidth: 322,
  tileHeight: 323,
  tiles: 324,
  tileBytes: 325,
  extra: 338,
  format: 339,
};
const TYPES = {
  // by the sample format and the bits
  "1 8": Uint8Array,
  "1 16": Uint16Array,
  "1 32": Uint32Array,
  "2 8": Int8Array,
  "2 16": Int16Array,
  "2 32": Int32Array,
  "3 32": Float32Array,
  "3 64": Float64Array,
};
const LARGEST = { 1: (bits) => 2 ** bits - 1, 2: (bits) => 2 ** (bits - 1) - 1 };
const [NONE, LZW, PACK_BITS] = [1, 5, 32773];
const DEFLATE = [8, 32946];
const COLOURS = [1, 2]; // photometric: black is 0, RGB
const MAX_EDGE = 2 ** 24; // of a tile
const ELSE = "Save it as a plain TIFF or as a PNG.";

/** Returns true if a file begins as a TIFF; a BigTIFF does not. */
export function isTiff(bytes) {
  const start = String.fromCharCode(...bytes.subarray(0, 4));
  return start === "II*\0" || start === "MM\0*";
}

/** Reads a TIFF. An alpha channel is dropped. */
export async function readTiff(bytes, checkSize) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = bytes[0] === 0x49;
  let layout;
  try {
    layout = describe(readFields(view, little));
  } catch (error) {
    throw error instanceof RangeError ? cutOff() : error;
  }
  const { height, width, samples, planar, block, Pixels } = layout;
  checkSize(height, width);
  const data = new Pixels(height * width * layout.channels);
  const across = Math.ceil(width / block.width);
  const perPlane = across * Math.ceil(height / block.height);
  const depth = planar ? 1 : samples; // samples of a pixel in a block
  if (block.offsets.length < perPlane * (planar ? samples : 1)) throw cutOff();
  for (let plane = 0; plane < (planar ? layout.channels : 1); plane++) {
    for (let n = 0; n < perPlane; n++) {
      const index = plane * perPlane + n;
      const top = Math.floor(n / across) * block.height;
      const left = (n % across) * block.width;
      const rows = block.tiled ? block.height : Math.min(block.height, height - top);
      const offset = block.offsets[index];
      const packed = bytes.subarray(offset, offset + block.bytes[index]);
      const length = rows * block.width * depth * Pixels.BYTES_PER_ELEMENT;
      const raw = await unpack(packed, layout.compression, length);
      if (raw.length < length) throw cutOff();
      const values = toPixels(raw.subarray(0, length), Pixels, little);
      if (layout.predictor === 2) addDifferences(values, block.width, depth);
      for (let y = 0; y < Math.min(rows, height - top); y++) {
        for (let x = 0; x < Math.min(block.width, width - left); x++) {
          const from = (y * block.width + x) * depth;
          const to = ((top + y) * width + left + x) * layout.channels + plane;
          const kept = planar ? 1 : layout.channels;
          for (let c = 0; c < kept; c++) data[to + c] = values[from + c];
        }
      }
    }
  }
  return { data, height, width, channels: layout.channels, largest: layout.largest };
}

/** Returns the fields of the first page, by tag; throws an error if there are more. */
function readFields(view, little) {
  const place = view.getUint32(4, little);
  const count = view.getUint16(place, little);
  const fields = new Map();
  for (let i = 0; i < count; i++) {
    const entry = place + 2 + 12 * i;
    const size = SIZES[view.getUint16(entry + 2, little)];
    if (!size) continue; // fractions and the like, which no pixel depends on
    const length = view.getUint32(entry + 4, little);
    const inside = length * size <= 4;
    const start = inside ? entry + 8 : view.getUint32(entry + 8, little);
    if (start + length * size > view.byteLength) throw cutOff();
    const get = { 1: "getUint8", 2: "getUint16", 4: "getUint32" }[size];
    const values = Array.from({ length }, (_, k) =>
      view[get](start + k * size, little),
    );
    fields.set(view.getUint16(entry, little), values);
  }
  if (view.getUint32(place + 2 + 12 * count, little)) {
    throw userError("The TIFF has several pages. Save one page as a TIFF or as a PNG.");
  }
  return fields;
}

/** Returns the layout of the pixels; throws an error if it is not supported. */
function describe(fields) {
  const get = (name, other) => fields.get(TAG[name])?.[0] ?? other;
  const text = String.fromCharCode(
    ...(fields.get(TAG.description) ?? []).slice(0, 999),
  );
  if (/^images=(?!1$)/m.test(text)) {
    throw userError("The TIFF is a stack. Save one of its images.");
  }
  const samples = get("samples", 1);
  const bits = get("bits", 1);
  const format = get("format", 1);
  const compression = get("compression", NONE);
  const tiled = fields.has(TAG.tiles);
  const extra = (fields.get(TAG.extra) ?? []).filter(
    (kind) => kind === 1 || kind === 2,
  );
  const layout = {
    height: get("height", 0),
    width: get("width", 0),
    samples,
    channels: samples - extra.length,
    planar: get("planar", 1) === 2,
    compression,
    predictor: get("predictor", 1),
    Pixels: TYPES[`${format} ${bits}`],
    largest: LARGEST[format]?.(bits) ?? 1,
    block: {
      tiled,
      width: get(tiled ? "tileWidth" : "width", 0),
      height: Math.min(get(tiled ? "tileHeight" : "stripRows", 2 ** 31), MAX_EDGE),
      offsets: fields.get(tiled ? TAG.tiles : TAG.strips) ?? [],
      bytes: fields.get(tiled ? TAG.tileBytes : TAG.stripBytes) ?? [],
    },
  };
  if (!layout.Pixels) throw userError(`The TIFF has ${bits} bits a sample. ${ELSE}`);
  if (![NONE, LZW, PACK_BITS, ...DEFLATE].includes(compression)) {
    throw userError(
      `The page cannot read compression ${compression} of a TIFF. ${ELSE}`,
    );
  }
  if (!COLOURS.includes(get("photometric", 1))) {
    throw userError(`The colours of the TIFF are neither grey nor RGB. ${ELSE}`);
  }
  if (get("orientation", 1) !== 1 || layout.predictor > 2) {
    throw userError(`The TIFF is turned, or its floats are packed. ${ELSE}`);
  }
  if (layout.channels < 1) throw userError(`The TIFF has no colours. ${ELSE}`);
  if (!tiled && layout.block.height > layout.height)
    layout.block.height = layout.height;
  const { block } = layout;
  if (!block.height || !block.width || block.width > MAX_EDGE) throw cutOff();
  return layout;
}

async function unpack(packed, compression, length) {
  if (compression === NONE) return packed;
  if (compression === LZW) return unpackLzw(packed, length);
  if (compression === PACK_BITS) return unpackBits(packed, length);
  return inflate(packed, length, "TIFF");
}

/** Returns bytes as numbers of this machine's byte order. */
function toPixels(raw, Pixels, little) {
  const size = Pixels.BYTES_PER_ELEMENT;
  const copy = raw.slice();
  const thisLittle = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
  if (size > 1 && little !== thisLittle) {
    for (let i = 0; i < copy.length; i += size) copy.subarray(i, i + size).reverse();
  }
  return new Pixels(copy.buffer);
}

/** Undoes predictor 2: a sample is stored as the difference from that on its left. */
function addDifferences(values, width, depth) {
  for (let row = 0; row < values.length; row += width * depth) {
    for (let i = row + depth; i < row + width * depth; i++)
      values[i] += values[i - depth];
  }
}

function unpackBits(packed, length) {
  const result = new Uint8Array(length);
  let filled = 0;
  for (let i = 0; i < packed.length && filled < length;) {
    const n = packed[i++];
    if (n < 128) {
      result.set(packed.subarray(i, Math.min(i + n + 1, i + length - filled)), filled);
      i += n + 1;
      filled += n + 1;
    } else if (n > 128) {
      result.fill(packed[i++], filled, filled + 257 - n);
      filled += 257 - n;
    }
  }
  return filled < length ? result.subarray(0, filled) : result;
}

/** Undoes the LZW of TIFF: codes of 9 to 12 bits, the most significant bit first. */
function unpackLzw(packed, length) {
  const [CLEAR, END] = [256, 257];
  const result = new Uint8Array(length);
  const starts = new Uint32Array(4096); // of the string of a code, in the result
  const sizes = new Uint32Array(4096);
  let [filled, next, width, previous] = [0, 258, 9, -1];
  for (let bit = 0; bit + width <= 8 * packed.length && filled < length;) {
    const byte = bit >> 3;
    const three = (packed[byte] << 16) | (packed[byte + 1] << 8) | packed[byte + 2];
    const code = (three >> (24 - width - (bit & 7))) & (2 ** width - 1);
    bit += width;
    if (code === END) break;
    if (code === CLEAR) {
      [next, width, previous] = [258, 9, -1];
      continue;
    }
    const start = filled;
    if (code < 256) {
      result[filled++] = code;
    } else {
      // The newest string ends with the byte that is written now.
      if (code > next - (previous < 0 ? 1 : 0) || code < 258) throw cutOff();
      const size = code < next ? sizes[code] : start - previous + 1;
      const from = code < next ? starts[code] : previous;
      for (let i = 0; i < size && filled < length; i++) {
        result[filled++] = result[from + i];
      }
    }
    if (previous >= 0 && next < 4096) {
      starts[next] = previous;
      sizes[next] = start - previous + 1;
      next++;
      if (next >= 2 ** width - 1 && width < 12) width++;
    }
    previous = start;
  }
  return result.subarray(0, filled);
}

function cutOff() {
  return userError("The TIFF is cut off or damaged. Save it again.");
}
