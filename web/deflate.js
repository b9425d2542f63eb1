/** Compression of zlib, with the functions of the browser. */

import { userError } from "./errors.js";

/**
 * Returns the first `length` bytes that zlib data inflate to, as a `Uint8Array`.
 *
 * It stops there, so that a hostile file cannot fill the memory.
 */
export async function inflate(bytes, length, name) {
  const stream = new Blob([bytes]).stream();
  const reader = stream.pipeThrough(new DecompressionStream("deflate")).getReader();
  const result = new Uint8Array(length);
  let filled = 0;
  try {
    while (filled < length) {
      const { done, value } = await reader.read();
      if (done) break;
      const part = value.subarray(0, length - filled);
      result.set(part, filled);
      filled += part.length;
    }
  } catch {
    throw userError(`The ${name} is damaged. Save it again.`);
  }
  reader.cancel().catch(() => {}); // what follows is not needed
  if (filled < length) throw userError(`The ${name} is cut off. Copy it again.`);
  return result;
}

/** Returns zlib data, as a `Uint8Array`. */
export async function deflate(bytes) {
  const stream = new Blob([bytes]).stream();
  const packed = stream.pipeThrough(new CompressionStream("deflate"));
  return new Uint8Array(await new Response(packed).arrayBuffer());
}
