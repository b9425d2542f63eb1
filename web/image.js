/**
 * Reads an image file.
 *
 * An image is `{data, height, width, channels, largest}`: `data` is a typed array of
 * `height * width * channels` numbers, channels last, as the file has them; `largest`
 * is the largest number of the type of integers, or 1 for floats.
 */

import { userError } from "./errors.js";
import { isPng, readPng } from "./png.js";
import { isTiff, readTiff } from "./tiff.js";

export const MAX_PIXELS = 2 ** 24; // of an image; objects.js counts on it

const START = [0xffd8, 0xff]; // of a JPEG
const LUMA = [299, 587, 114]; // thousandths of red, green and blue: ITU-R BT.601

/** Reads a PNG, a JPEG or a TIFF from its bytes, a `Uint8Array`. */
export async function readImage(bytes) {
  let image;
  try {
    image = await read(bytes);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw userError("The image needs more memory than the browser gives. Cut it.");
  }
  const { data } = image;
  if (data instanceof Float32Array || data instanceof Float64Array) {
    if (!data.every(Number.isFinite)) {
      throw userError("The image has NaN or infinite pixels. Replace them.");
    }
  }
  return image;
}

/** Throws an error if an image is empty or too large. */
export function checkSize(height, width) {
  if (!height || !width) throw userError("The image has no pixels. Save it again.");
  if (height * width > MAX_PIXELS) {
    throw userError(
      `The image has ${height} × ${width} pixels, the page takes ${(MAX_PIXELS / 1e6).toFixed(1)} ` +
        "million. Cut it, or predict it with main.py --mode=predict.",
    );
  }
}

/**
 * Returns the image with the channels that the network takes.
 *
 * Grey is repeated as red, green and blue. These become grey by their luma, which is
 * rounded for integers, halves to the even number.
 */
export function convertChannels(image, channels, allowed) {
  const { channels: stored, data, largest } = image;
  if (stored === channels) return image;
  const differ = `The image has ${count(stored)}, the model takes ${count(channels)}. `;
  const possible = (stored === 1 && channels === 3) || (stored === 3 && channels === 1);
  if (!possible) throw userError(`${differ}Save it with ${count(channels)}.`);
  if (!allowed) {
    throw userError(
      `${differ}Save it with ${count(channels)}, or export the model with ` +
        "--config.predict.channels=convert.",
    );
  }
  const pixels = image.height * image.width;
  const result = new data.constructor(pixels * channels);
  for (let i = 0; i < pixels; i++) {
    if (channels === 3) {
      result.fill(data[i], 3 * i, 3 * i + 3);
    } else {
      const parts = LUMA.map((factor, c) => factor * data[3 * i + c]);
      const luma = (parts[0] + parts[1] + parts[2]) / 1000;
      result[i] = largest === 1 ? luma : roundHalfToEven(luma);
    }
  }
  return { ...image, data: result, channels };
}

/** Rounds as NumPy's `rint` does. */
export function roundHalfToEven(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 ? floor + 1 : floor;
}

function count(channels) {
  return channels === 1 ? "1 channel" : `${channels} channels`;
}

async function read(bytes) {
  if (isPng(bytes)) return readPng(bytes, checkSize);
  if (isTiff(bytes)) return readTiff(bytes, checkSize);
  if (bytes.length > 3 && ((bytes[0] << 8) | bytes[1]) === START[0]) {
    return readJpeg(bytes);
  }
  throw userError("The file is no PNG, JPEG or TIFF. Save the image as one of them.");
}

/** Reads a JPEG with the decoder of the browser, which turns it upright. */
async function readJpeg(bytes) {
  const frame = findFrame(bytes);
  checkSize(frame.height, frame.width);
  if (frame.channels !== 1 && frame.channels !== 3) {
    throw userError(
      `The JPEG has ${count(frame.channels)}. Save it as grey or as RGB.`,
    );
  }
  let bitmap;
  try {
    const blob = new Blob([bytes], { type: "image/jpeg" });
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none" });
  } catch {
    throw userError("The JPEG is damaged. Save it again.");
  }
  const { height, width } = bitmap;
  const context = new OffscreenCanvas(width, height).getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const colours = context.getImageData(0, 0, width, height).data;
  const { channels } = frame;
  const data = new Uint8Array(height * width * channels);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < channels; c++) data[channels * i + c] = colours[4 * i + c];
  }
  return { data, height, width, channels, largest: 255 };
}

/** Returns the size and the number of channels that a JPEG states. */
function findFrame(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let place = 2; place + 10 <= bytes.length;) {
    const marker = bytes[place + 1];
    if (bytes[place] !== START[1]) break;
    const isFrame = marker >= 0xc0 && marker <= 0xcf;
    if (isFrame && ![0xc4, 0xc8, 0xcc].includes(marker)) {
      const [height, width] = [view.getUint16(place + 5), view.getUint16(place + 7)];
      return { height, width, channels: bytes[place + 9] };
    }
    place += marker === 0xff ? 1 : 2 + view.getUint16(place + 2);
  }
  throw userError("The JPEG is damaged. Save it again.");
}
