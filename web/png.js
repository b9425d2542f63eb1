/**
 * Reads and writes PNG files.
 *
 * A canvas has 8 bits a channel, so it would lose half of the bits of many microscopes.
 * https://www.w3.org/TR/png-3/
 */

import { deflate, inflate } from "./deflate.js";
import { userError } from "./errors.js";

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const SAMPLES = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // of a pixel, by the type of colours
const PALETTE = 3;
const WHOLE = [[0, 1, 0, 1]];
const ADAM7 = [
  // rows and columns of each pass: start and step
  [0, 8, 0, 8],
  [0, 8, 4, 8],
  [4, 8, 0, 4],
  [0, 4, 2, 4],
  [2, 4, 0, 2],
  [0, 2, 1, 2],
  [1, 2, 0, 1],
];
const CRC = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});

/** Returns true if a file begins as a PNG. */
export function isPng(bytes) {
  return SIGNATURE.every((byte, i) => bytes[i] === byte);
}

/** Reads a PNG of 1 to 16 bits. An alpha channel is dropped. */
export async function readPng(bytes, checkSize) {
  const { header, palette, data } = findChunks(bytes);
  const { height, width, bits, colours, interlaced } = header;
  checkSize(height, width);
  const samples = SAMPLES[colours];
  if (!samples || ![1, 2, 4, 8, 16].includes(bits)) {
    throw userError("The PNG is damaged: its header is wrong. Save it again.");
  }
  const passes = (interlaced ? ADAM7 : WHOLE)
    .map(([top, down, left, right]) => ({
      top,
      down,
      left,
      right,
      rows: Math.ceil((height - top) / down),
      columns: Math.ceil((width - left) / right),
    }))
    .filter((pass) => pass.rows > 0 && pass.columns > 0);
  const rowBytes = (pass) => Math.ceil((pass.columns * samples * bits) / 8);
  const length = passes.reduce((sum, p) => sum + p.rows * (rowBytes(p) + 1), 0);
  const raw = await inflate(data, length, "PNG");
  const channels = colours & 2 ? 3 : 1; // without alpha
  const kept = colours === PALETTE ? 1 : channels;
  const Pixels = bits === 16 ? Uint16Array : Uint8Array;
  const stored = new Pixels(height * width * kept);
  let place = 0;
  for (const pass of passes) {
    const size = rowBytes(pass);
    unfilter(raw, place, pass.rows, size, Math.max((samples * bits) >> 3, 1));
    for (let i = 0; i < pass.rows; i++) {
      const row = raw.subarray(place + 1, place + 1 + size);
      const y = pass.top + i * pass.down;
      for (let j = 0; j < pass.columns; j++) {
        const target = (y * width + pass.left + j * pass.right) * kept;
        for (let c = 0; c < kept; c++) {
          stored[target + c] = getSample(row, j * samples + c, bits);
        }
      }
      place += size + 1;
    }
  }
  const largest = bits === 16 ? 65535 : 255;
  if (colours === PALETTE) {
    const shown = new Uint8Array(height * width * 3);
    stored.forEach((index, i) => {
      for (let c = 0; c < 3; c++) shown[3 * i + c] = palette[3 * index + c] ?? 0;
    });
    return { data: shown, height, width, channels, largest };
  }
  if (bits < 8) {
    // black and white become 0 and 255
    stored.forEach((x, i) => (stored[i] = (x * 255) / (2 ** bits - 1)));
  }
  return { data: stored, height, width, channels, largest };
}

/** Returns a grey PNG of unsigned integers; of 16 bits if `pixels` is a Uint16Array. */
export async function writePng(pixels, height, width) {
  const size = pixels.BYTES_PER_ELEMENT;
  const rows = new Uint8Array(height * (width * size + 1));
  const view = new DataView(rows.buffer);
  for (let y = 0, place = 0; y < height; y++) {
    place++; // filter 0
    for (let x = 0; x < width; x++, place += size) {
      const value = pixels[y * width + x];
      if (size === 2) view.setUint16(place, value);
      else rows[place] = value;
    }
  }
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header[8] = 8 * size;
  const data = await deflate(rows);
  const chunks = [makeChunk("IHDR", header), makeChunk("IDAT", data)];
  return new Blob([new Uint8Array(SIGNATURE), ...chunks, makeChunk("IEND", [])], {
    type: "image/png",
  });
}

/** Returns the header, the palette and the compressed pixels of a PNG. */
function findChunks(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const parts = [];
  let header,
    name,
    palette = [];
  for (let place = 8; name !== "IEND";) {
    if (place + 12 > bytes.length) throw cutOff();
    const length = view.getUint32(place);
    const end = place + 8 + length;
    if (end + 4 > bytes.length) throw cutOff();
    name = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const content = bytes.subarray(place + 8, end);
    if (view.getUint32(end) !== computeCrc(bytes.subarray(place + 4, end))) {
      throw userError("The PNG is damaged: a checksum is wrong. Copy it again.");
    }
    if (name === "IHDR" && length === 13) {
      header = {
        width: view.getUint32(place + 8),
        height: view.getUint32(place + 12),
        bits: content[8],
        colours: content[9],
        interlaced: content[12] === 1,
      };
    } else if (name === "acTL") {
      throw userError("The PNG is an animation. Save one of its images.");
    } else if (name === "PLTE") {
      palette = content;
    } else if (name === "IDAT") {
      parts.push(content);
    }
    place = end + 4;
  }
  if (!header) throw userError("The PNG has no header. Save it again.");
  const data = new Blob(parts);
  return { header, palette, data };
}

/** Undoes the filters of the rows of a pass, in place. */
function unfilter(raw, start, rows, size, step) {
  for (let i = 0; i < rows; i++) {
    const row = start + i * (size + 1) + 1;
    const kind = raw[row - 1];
    if (kind > 4) throw userError("The PNG is damaged: a filter is unknown.");
    for (let x = 0; kind && x < size; x++) {
      const left = x < step ? 0 : raw[row + x - step];
      const above = i ? raw[row + x - size - 1] : 0;
      const corner = i && x >= step ? raw[row + x - size - 1 - step] : 0;
      let guess = left;
      if (kind === 2) guess = above;
      else if (kind === 3) guess = (left + above) >> 1;
      else if (kind === 4) guess = predictPaeth(left, above, corner);
      raw[row + x] += guess;
    }
  }
}

function predictPaeth(left, above, corner) {
  const a = Math.abs(above - corner);
  const b = Math.abs(left - corner);
  const c = Math.abs(left + above - 2 * corner);
  if (a <= b && a <= c) return left;
  return b <= c ? above : corner;
}

function getSample(row, index, bits) {
  if (bits === 8) return row[index];
  if (bits === 16) return (row[2 * index] << 8) | row[2 * index + 1];
  const shift = 8 - bits - ((index * bits) & 7);
  return (row[(index * bits) >> 3] >> shift) & (2 ** bits - 1);
}

function makeChunk(name, content) {
  const chunk = new Uint8Array(12 + content.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, content.length);
  chunk.set(
    [...name].map((letter) => letter.charCodeAt(0)),
    4,
  );
  chunk.set(content, 8);
  const end = 8 + content.length;
  view.setUint32(end, computeCrc(chunk.subarray(4, end)));
  return chunk;
}

function computeCrc(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = CRC[(crc ^ byte) & 255] ^ (crc >>> 8);
  return ~crc >>> 0;
}

function cutOff() {
  return userError("The PNG is cut off. Copy it again.");
}
