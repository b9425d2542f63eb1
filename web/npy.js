/** Writes arrays for NumPy, in version 1.0 of its format `npy`. */

const TYPES = new Map([
  [Float32Array, "<f4"],
  [Uint8Array, "|u1"],
]);

/** Returns an array of a shape as a file. */
export function writeNpy(array, shape) {
  const type = TYPES.get(array.constructor);
  const sizes = shape.map((n) => `${n}, `).join("");
  const text = `{'descr': '${type}', 'fortran_order': False, 'shape': (${sizes}), }`;
  const padded = text.padEnd(Math.ceil((text.length + 11) / 64) * 64 - 11) + "\n";
  const start = [0x93, ...[..."NUMPY"].map((x) => x.charCodeAt(0)), 1, 0];
  const length = [padded.length & 255, padded.length >> 8];
  return new Blob([Uint8Array.from([...start, ...length]), padded, array]);
}
