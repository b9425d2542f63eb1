/**
 * Measures how well predicted vectors fit the shape of an object.
 *
 * Heat flows from the centre of an object to a cold outside; vectors point where it
 * rises. `unet_jax/tasks/vector_field.py` has the reasons. Here, the objects are solved
 * one after the other by conjugate gradients, in float64.
 */

const TOLERANCE = 1e-12; // relative residual at which the solver stops
const SMALLEST_HEAT = 1e-5; // smaller heat is solved again, in smaller units
const FLAT_RISE = 1e-4; // relative rise of the heat that can be rounding error
const MOST = 2 * Math.log(3); // a pixel has 1/9 of a neighbour's heat or more
const AROUND = [-1, 0, 1].flatMap((dy) => [-1, 0, 1].map((dx) => [dy, dx]));

/**
 * Returns each object's mean squared distance from the vectors of its shape.
 *
 * @param objects `i32[H, W]`, ids from 1
 * @param vectors `f32[2, H, W]`
 * @returns a number for each id from 0
 */
export function measureDisagreement(objects, vectors, height, width) {
  const potential = computePotential(objects, height, width);
  const sums = [0];
  const counts = [0];
  const size = objects.length;
  for (let i = 0; i < size; i++) {
    const id = objects[i];
    if (!id) continue;
    const [y, x] = [Math.floor(i / width), i % width];
    const down = rise(potential, objects, i, y, height, width);
    const right = rise(potential, objects, i, x, width, 1);
    const length = Math.max(Math.hypot(down, right), FLAT_RISE);
    const error =
      (down / length - vectors[i]) ** 2 + (right / length - vectors[size + i]) ** 2;
    sums[id] = (sums[id] ?? 0) + error;
    counts[id] = (counts[id] ?? 0) + 1;
  }
  return Array.from(sums, (sum, id) => (sum ?? 0) / Math.max(counts[id] ?? 0, 1));
}

/** Returns the central difference of the heat along an axis, divided by the heat. */
function rise(potential, objects, i, position, length, stride) {
  if (length === 1) return 0;
  const share = (other) => {
    if (objects[other] !== objects[i]) return 0;
    const step = potential[other] - potential[i];
    return Math.exp(Math.min(Math.max(step, -MOST), MOST));
  };
  // beyond the border, the heat is extrapolated linearly
  const mirrored = (other) => (objects[other] === objects[i] ? 2 - share(other) : 0);
  const [before, after] = [i - stride, i + stride];
  const isFirst = position === 0;
  const isLast = position === length - 1;
  return (
    (isLast ? mirrored(before) : share(after)) -
    (isFirst ? mirrored(after) : share(before))
  );
}

/** Returns the logarithm of the heat in every object, `f64[H, W]`; 0 outside. */
function computePotential(objects, height, width) {
  const potential = new Float64Array(objects.length);
  for (const pixels of listPieces(objects, height, width)) {
    const links = linkPixels(pixels, height, width);
    const source = findCentre(pixels, width);
    const log = solveLogHeat(links, source);
    pixels.forEach((pixel, n) => (potential[pixel] = log[n]));
  }
  return potential;
}

/** Returns the pixels of each piece of an object that is connected through faces. */
function listPieces(objects, height, width) {
  const pieces = [];
  const seen = new Uint8Array(objects.length);
  for (let first = 0; first < objects.length; first++) {
    if (!objects[first] || seen[first]) continue;
    seen[first] = 1;
    const pixels = [first];
    for (let n = 0; n < pixels.length; n++) {
      const i = pixels[n];
      const [y, x] = [Math.floor(i / width), i % width];
      const beside = [
        y > 0 ? i - width : -1,
        y + 1 < height ? i + width : -1,
        x > 0 ? i - 1 : -1,
        x + 1 < width ? i + 1 : -1,
      ];
      for (const other of beside) {
        if (other < 0 || seen[other] || objects[other] !== objects[i]) continue;
        seen[other] = 1;
        pixels.push(other);
      }
    }
    pieces.push(Int32Array.from(pixels).sort());
  }
  return pieces;
}

/** Returns, for each pixel, the numbers of the 3 x 3 ones around it, or -1. */
function linkPixels(pixels, height, width) {
  const numbers = new Map(Array.from(pixels, (pixel, n) => [pixel, n]));
  const links = new Int32Array(9 * pixels.length).fill(-1);
  pixels.forEach((pixel, n) => {
    const [y, x] = [Math.floor(pixel / width), pixel % width];
    AROUND.forEach(([dy, dx], k) => {
      const inside = y + dy >= 0 && y + dy < height && x + dx >= 0 && x + dx < width;
      if (inside) links[9 * n + k] = numbers.get(pixel + dy * width + dx) ?? -1;
    });
  });
  return links;
}

/** Returns the number of the pixel nearest to the median along each axis. */
function findCentre(pixels, width) {
  const axes = [(pixel) => Math.floor(pixel / width), (pixel) => pixel % width];
  const distance = new Float64Array(pixels.length);
  for (const get of axes) {
    const ordered = Float64Array.from(pixels, get).sort();
    const half = ordered.length / 2;
    const median = (ordered[Math.ceil(half) - 1] + ordered[Math.floor(half)]) / 2;
    pixels.forEach((pixel, n) => (distance[n] += (get(pixel) - median) ** 2));
  }
  return distance.indexOf(distance.reduce((a, b) => Math.min(a, b), Infinity));
}

/**
 * Returns the logarithm of the heat, where a pixel has the mean of the 3 x 3 around it.
 *
 * Pixels that are too cold for the accuracy of a solver are solved again, from the
 * known heat around them, in smaller units.
 */
function solveLogHeat(links, source) {
  const size = links.length / 9;
  const log = new Float64Array(size).fill(-Infinity);
  let rest = Int32Array.from({ length: size }, (_, n) => n);
  let unit = 0; // the logarithm of the unit
  let inflow = new Float64Array(size);
  for (let k = 0; k < 9; k++) {
    const n = links[9 * source + k];
    if (n >= 0) inflow[n] = 1 / 9;
  }
  while (rest.length) {
    const heat = solveHeat(keepLinks(links, rest, size), inflow);
    rest.forEach(
      (n, i) => heat[i] > SMALLEST_HEAT && (log[n] = Math.log(heat[i]) + unit),
    );
    const colder = rest.filter((n) => log[n] === -Infinity);
    if (colder.length === rest.length) break; // rounding; no heat can be told apart
    rest = colder;
    const known = (n) => n >= 0 && log[n] > -Infinity;
    unit = -Infinity;
    for (const n of rest) {
      for (let k = 0; k < 9; k++) {
        const other = links[9 * n + k];
        if (known(other)) unit = Math.max(unit, log[other]);
      }
    }
    inflow = Float64Array.from(rest, (n) => {
      let sum = 0;
      for (let k = 0; k < 9; k++) {
        const other = links[9 * n + k];
        if (known(other)) sum += Math.exp(log[other] - unit) / 9;
      }
      return sum;
    });
  }
  return log;
}

/** Returns the links among some of the pixels, by their numbers among these. */
function keepLinks(links, rest, size) {
  const numbers = new Int32Array(size).fill(-1);
  rest.forEach((n, i) => (numbers[n] = i));
  const kept = new Int32Array(9 * rest.length);
  rest.forEach((n, i) => {
    for (let k = 0; k < 9; k++) {
      const other = links[9 * n + k];
      kept[9 * i + k] = other < 0 ? -1 : numbers[other];
    }
  });
  return kept;
}

/** Solves `heat = mean(heat) + inflow` (Hestenes and Stiefel 1952). */
function solveHeat(links, inflow) {
  const size = inflow.length;
  const heat = new Float64Array(size);
  const residual = inflow.slice();
  const direction = inflow.slice();
  const change = new Float64Array(size);
  const dot = (a, b) => a.reduce((sum, x, i) => sum + x * b[i], 0);
  let product = dot(residual, residual);
  const goal = TOLERANCE ** 2 * product;
  while (product > goal) {
    for (let n = 0; n < size; n++) {
      let sum = 0;
      for (let k = 9 * n; k < 9 * n + 9; k++) {
        if (links[k] >= 0) sum += direction[links[k]];
      }
      change[n] = direction[n] - sum / 9;
    }
    const length = product / dot(direction, change);
    for (let n = 0; n < size; n++) {
      heat[n] += length * direction[n];
      residual[n] -= length * change[n];
    }
    const before = product;
    product = dot(residual, residual);
    for (let n = 0; n < size; n++) {
      direction[n] = residual[n] + (product / before) * direction[n];
    }
  }
  return heat;
}
