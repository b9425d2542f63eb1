/**
 * Finds objects by following vectors, as `unet_jax/tasks/flow.py`.
 *
 * Stringer et al. 2021 (Cellpose, Nature Methods 18). Positions and vectors are
 * float32, as there, so that the same pixels meet.
 */

import { labelComponents } from "./components.js";
import { measureDisagreement } from "./heat.js";
import { roundHalfToEven } from "./image.js";

const MERGE_EVERY = 10; // number of steps after which points are merged
const MERGE_GRID = 4; // points in the same 1/4 pixel are merged
const CORE_POINTS = 3; // least number of end points at a position of a core
const { fround } = Math;

/**
 * Returns object ids, `i32[H, W]`.
 *
 * @param vectors `f32[2, H, W]`, down and right
 * @param inside `u8[H, W]`, 1 in objects
 * @param options the keywords of the task `flow`
 */
export function findObjects(vectors, inside, height, width, options) {
  const masked = Float32Array.from(vectors, (v, i) =>
    inside[i % inside.length] ? v : 0,
  );
  const ends = followVectors(masked, inside, height, width, options.steps);
  const found = groupEndPoints(ends, height, width);
  const objects = new Int32Array(inside.length);
  for (let i = 0, n = 0; i < objects.length; i++) {
    if (inside[i]) objects[i] = found[n++];
  }
  selectObjects(
    objects,
    countPixels(objects).map((n) => n >= options.pixels),
  );
  if (options.flow_threshold) {
    const error = measureDisagreement(objects, vectors, height, width);
    selectObjects(
      objects,
      error.map((e) => e <= options.flow_threshold),
    );
  }
  return objects;
}

/**
 * Moves each pixel of the mask along the vectors and returns its end point.
 *
 * @returns `{y, x}`, each `f32[N]`, in the order of the pixels
 */
function followVectors(vectors, inside, height, width, steps) {
  const pixels = [];
  inside.forEach((is, i) => is && pixels.push(i));
  let y = Float32Array.from(pixels, (i) => Math.floor(i / width));
  let x = Float32Array.from(pixels, (i) => i % width);
  const which = Int32Array.from(pixels, (_, n) => n); // the merged point of each pixel
  for (let step = 1; step <= steps; step++) {
    for (let n = 0; n < y.length; n++) {
      const [top, left] = [Math.floor(y[n]), Math.floor(x[n])];
      const [down, right] = [y[n] - top, x[n] - left];
      const at = top * width + left;
      // the neighbour after the last pixel has the weight 0
      const below = top + 1 < height ? width : 0;
      const beside = left + 1 < width ? 1 : 0;
      const weights = [
        (1 - down) * (1 - right),
        (1 - down) * right,
        down * (1 - right),
      ];
      const move = (first) => {
        const i = first + at;
        return fround(
          vectors[i] * weights[0] +
            vectors[i + beside] * weights[1] +
            vectors[i + below] * weights[2] +
            vectors[i + below + beside] * down * right,
        );
      };
      const [moveY, moveX] = [move(0), move(inside.length)];
      y[n] = Math.min(Math.max(fround(y[n] + moveY), 0), height - 1);
      x[n] = Math.min(Math.max(fround(x[n] + moveX), 0), width - 1);
    }
    if (step % MERGE_EVERY === 0) {
      const merged = mergePoints(y, x, width);
      y = Float32Array.from(merged.kept, (n) => y[n]);
      x = Float32Array.from(merged.kept, (n) => x[n]);
      which.forEach((n, i) => (which[i] = merged.which[n]));
    }
  }
  const expand = (values) => Float32Array.from(which, (n) => values[n]);
  return { y: expand(y), x: expand(x) };
}

/** Merges points in the same cell of the grid; the first point of a cell is kept. */
function mergePoints(y, x, width) {
  const count = y.length;
  // Sorting the cell and the number as one float64 is fast, and exact below 2^53: cells
  // are fewer than 2^28, points than 2^24 (MAX_PIXELS).
  const keys = new Float64Array(count);
  for (let n = 0; n < count; n++) {
    const cell =
      Math.floor(MERGE_GRID * y[n]) * MERGE_GRID * width +
      Math.floor(MERGE_GRID * x[n]);
    keys[n] = cell * count + n;
  }
  keys.sort();
  const kept = [];
  const which = new Int32Array(count);
  let last = -1;
  for (const key of keys) {
    const cell = Math.floor(key / count);
    const n = key - cell * count;
    if (cell !== last) kept.push(n);
    which[n] = kept.length - 1;
    last = cell;
  }
  return { kept, which };
}

/**
 * Groups end points into objects and returns the object of each, from 1.
 *
 * A position at which three or more points meet is a core; cores within 2 pixels of
 * each other are one object. Points beside a core belong to it. Of the remaining ones,
 * adjacent positions form one object.
 */
function groupEndPoints(ends, height, width) {
  const size = height * width;
  const number = new Int32Array(size);
  const places = Int32Array.from(
    ends.y,
    (y, n) => roundHalfToEven(y) * width + roundHalfToEven(ends.x[n]),
  );
  for (const place of places) number[place]++;
  const dense = Uint8Array.from(number, (n) => n >= CORE_POINTS);
  // Blocks of 2 pixels at positions 2 pixels apart touch each other.
  const blocks = spread(dense, height, width, [-1, 0]);
  const { parts, count } = labelComponents(blocks, height, width, true);
  const core = spread(
    parts.map((part, i) => (dense[i] ? part : 0)),
    height,
    width,
    [-1, 0, 1],
  );
  const rest = Uint8Array.from(number, (n, i) => n > 0 && !core[i]);
  const lone = labelComponents(rest, height, width, true).parts;
  return Int32Array.from(places, (place) => core[place] || lone[place] + count);
}

/** Returns the largest value of an image `[H, W]` that is moved by all of the steps. */
function spread(values, height, width, steps) {
  const result = new values.constructor(values.length);
  for (let i = 0; i < values.length; i++) {
    if (!values[i]) continue;
    const [y, x] = [Math.floor(i / width), i % width];
    for (const dy of steps) {
      for (const dx of steps) {
        if (y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width) continue;
        const to = i + dy * width + dx;
        result[to] = Math.max(result[to], values[i]);
      }
    }
  }
  return result;
}

/** Renumbers the chosen objects as 1, 2, 3, ..., in place; the others become 0. */
function selectObjects(objects, chosen) {
  let count = 0;
  const numbers = Array.from(chosen, (is, id) => (is && id ? ++count : 0));
  for (let i = 0; i < objects.length; i++) objects[i] = numbers[objects[i]];
}

/** Returns the number of pixels of each id, the background included. */
function countPixels(objects) {
  const most = objects.reduce((a, b) => Math.max(a, b), 0);
  const counts = new Array(most + 1).fill(0);
  for (const id of objects) counts[id]++;
  return counts;
}
