/**
 * Predicts an image in tiles that overlap, so that it may be larger than the memory.
 *
 * Tiles start at multiples of the coarsest stride of the network, and the output
 * within its halo of a cut is not used. So the result equals that of the whole image. A
 * network whose output depends on the whole image (`blend`) has no halo, and that of
 * some deep networks is too large for tiles that fit into the memory. Then tiles
 * overlap by half, and each pixel has the weight of a Gaussian around the middle of its
 * tile. Both follow `unet_jax/tiling.py`.
 *
 * The graph mirrors the border of the image itself.
 */

const EDGE = 512; // pixels of a tile along an axis, unless the halo is large
const MAX_EDGE = 2304; // the largest tile that is not blended
const BLEND_EDGE = 1024; // these tiles change the result, so they are large

/** Returns true if tiles must overlap by half, by the rules of `predictTiles`. */
export function mustBlend({ halo, multiple, blend }) {
  const edges = halo.map((size, axis) => chooseEdge(size, multiple[axis]));
  return blend || Math.max(...edges) > MAX_EDGE;
}

/**
 * Returns the spans of the tiles along one axis.
 *
 * A span is `{start, stop, first, last}`: the pixels of the tile, and those of them
 * that are used.
 */
export function planAxis(size, { halo, multiple, blend }) {
  if (blend) return placeOverlapping(size, roundUp(BLEND_EDGE, multiple), multiple);
  const place = (edge) => placeExact(size, edge, halo, multiple);
  let edge = chooseEdge(halo, multiple);
  const count = place(edge).length;
  const least = roundUp(2 * halo + multiple, multiple);
  while (edge > least && place(edge - multiple).length === count) edge -= multiple;
  return place(edge); // the smallest tiles of this number
}

/**
 * Predicts normalised pixels.
 *
 * @param pixels `f32[C, H, W]`
 * @param shape `{height, width, channels}`
 * @param rules `{halo, multiple, blend}`; halo and multiple have a number for each axis
 * @param run computes a tile, `(f32[C, h, w], h, w) => f32[K, h, w]`, and may be async
 * @param onProgress is called with the number of finished tiles and of all tiles
 * @returns the prediction, `f32[K, H, W]`
 */
export async function predictTiles(pixels, shape, rules, run, onProgress) {
  const { height, width, channels } = shape;
  const blended = mustBlend(rules);
  const [rows, columns] = [height, width].map((size, axis) =>
    planAxis(size, {
      halo: rules.halo[axis],
      multiple: rules.multiple[axis],
      blend: blended,
    }),
  );
  const total = rows.length * columns.length;
  let result, weights;
  let done = 0;
  onProgress(done, total);
  for (const row of rows) {
    for (const column of columns) {
      const [h, w] = [row.stop - row.start, column.stop - column.start];
      const tile = new Float32Array(channels * h * w);
      for (let c = 0; c < channels; c++) {
        for (let y = 0; y < h; y++) {
          const from = (c * height + row.start + y) * width + column.start;
          tile.set(pixels.subarray(from, from + w), (c * h + y) * w);
        }
      }
      const output = await run(tile, h, w);
      const outputs = output.length / (h * w);
      result ??= new Float32Array(outputs * height * width);
      if (blended && total > 1) {
        weights ??= new Float32Array(height * width);
        blend(result, weights, output, outputs, row, column, height, width);
      } else {
        paste(result, output, outputs, row, column, height, width);
      }
      onProgress(++done, total);
    }
  }
  if (weights) {
    for (let i = 0; i < result.length; i++) result[i] /= weights[i % weights.length];
  }
  return result;
}

/** Returns the edge of tiles that are not blended: half of it, or more, is used. */
function chooseEdge(halo, multiple) {
  return roundUp(Math.max(EDGE, 4 * halo + multiple), multiple);
}

function roundUp(size, multiple) {
  return Math.ceil(size / multiple) * multiple;
}

/** Places tiles whose used pixels do not overlap. */
function placeExact(size, edge, halo, multiple) {
  const stride = Math.floor((edge - 2 * halo) / multiple) * multiple;
  const spans = [];
  for (let start = 0, first = 0; first < size; start += stride) {
    const stop = Math.min(start + edge, size);
    const last = stop === size ? size : stop - halo;
    spans.push({ start, stop, first, last });
    first = last;
  }
  return spans;
}

/** Places tiles that overlap by half. */
function placeOverlapping(size, edge, multiple) {
  const stride = Math.max(Math.floor(edge / 2 / multiple), 1) * multiple;
  const end = Math.max(Math.ceil((size - edge) / multiple) * multiple, 0);
  const starts = [];
  for (let start = 0; start < end; start += stride) starts.push(start);
  return [...starts, end].map((start) => {
    const stop = Math.min(start + edge, size);
    return { start, stop, first: start, last: stop };
  });
}

/** Copies the used pixels of a tile to the result. */
function paste(result, output, outputs, row, column, height, width) {
  const [h, w] = [row.stop - row.start, column.stop - column.start];
  for (let k = 0; k < outputs; k++) {
    for (let y = row.first; y < row.last; y++) {
      const from = (k * h + y - row.start) * w - column.start;
      const part = output.subarray(from + column.first, from + column.last);
      result.set(part, (k * height + y) * width + column.first);
    }
  }
}

/** Adds a tile, and its weights, to the sums. */
function blend(result, weights, output, outputs, row, column, height, width) {
  const [h, w] = [row.stop - row.start, column.stop - column.start];
  const [down, across] = [makeGaussian(h), makeGaussian(w)];
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      const weight = Math.max(down[y] * across[x], 1e-3);
      const to = (row.start + y) * width + column.start + x;
      weights[to] += weight;
      for (let k = 0; k < outputs; k++) {
        result[k * height * width + to] += weight * output[(k * h + y) * w + x];
      }
    }
  }
}

/** Returns weights of 1 in the middle, with a sigma of an eighth of the size. */
function makeGaussian(size) {
  const middle = (size - 1) / 2;
  return Float64Array.from({ length: size }, (_, i) =>
    Math.exp(-0.5 * ((i - middle) / (size / 8)) ** 2),
  );
}
