/** Draws an image and its segmentation. */

// colours.choose_colours(24, background=False): the first seven are Okabe and Ito's
// prettier-ignore
const OBJECT_COLOURS = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178],
  [213, 94, 0], [204, 121, 167], [119, 0, 204], [170, 255, 238], [187, 0, 51],
  [119, 119, 0], [255, 204, 187], [0, 238, 68], [0, 85, 34], [221, 204, 255],
  [119, 51, 0], [153, 119, 255], [119, 68, 102], [255, 102, 102], [170, 187, 136],
  [0, 102, 102], [51, 68, 136], [170, 136, 102], [221, 0, 221],
];
const NEAR = 8; // pixels; nearer objects have different colours
const FILL = 0.45; // the opacity of the inner pixels of a label
const LEAST_LUMA = 120; // of an object's colour, on dark images
const OUTLINE = 600; // an outline has one pixel for each of these pixels of the image

/** Draws an image; those of more than 8 bits are stretched from black to white. */
export function drawImage(canvas, image) {
  const { data, height, width, channels, largest } = image;
  let [low, high] = [0, 255];
  if (largest !== 255) {
    [low, high] = [Infinity, -Infinity];
    for (const value of data) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  const factor = high > low ? 255 / (high - low) : 0;
  const picture = new ImageData(width, height);
  const sources = channels < 3 ? [0, 0, 0] : [0, 1, 2];
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) {
      picture.data[4 * i + c] = (data[i * channels + sources[c]] - low) * factor;
    }
    picture.data[4 * i + 3] = 255;
  }
  put(canvas, picture);
}

/**
 * Draws classes or objects with a transparent background.
 *
 * @param result `{label, objects, prediction, image}`
 * @param mode "labels", "outlines" or "probabilities"
 * @param drawn the classes of `model.shown` to draw
 * @param colours of the objects, from `colourObjects`
 */
export function drawOverlay(canvas, result, model, mode, drawn, colours) {
  const { label, objects, prediction, image } = result;
  const { height, width } = image;
  const size = height * width;
  const picture = new ImageData(width, height);
  const thick = Math.max(Math.round(Math.max(height, width) / OUTLINE), 1);
  for (const { id, colour } of drawn) {
    const ids = pickIds(label, objects, model, size, id);
    const probability = pickProbability(prediction, model, size, id);
    for (let i = 0; i < size; i++) {
      let alpha = 255 * probability[i];
      if (mode !== "probabilities") {
        if (!ids[i]) continue;
        alpha = 255;
        if (!isEdge(ids, i, height, width, thick)) {
          if (mode === "outlines") continue;
          alpha *= FILL;
        }
      }
      const shown = objects && mode !== "probabilities" ? colours[ids[i]] : colour;
      picture.data.set(shown, 4 * i);
      picture.data[4 * i + 3] = Math.max(picture.data[4 * i + 3], alpha);
    }
  }
  put(canvas, picture);
}

/** Returns a colour for each object, by its id; those of near objects differ. */
export function colourObjects(objects, height, width) {
  if (!objects) return [];
  const near = [];
  const steps = [
    [0, NEAR],
    [NEAR, 0],
    [NEAR, NEAR],
    [NEAR, -NEAR],
    [0, 3],
    [3, 0],
  ];
  for (let i = 0; i < objects.length; i++) {
    const one = objects[i];
    if (!one) continue;
    near[one] ??= new Set();
    const [y, x] = [Math.floor(i / width), i % width];
    for (const [dy, dx] of steps) {
      if (y + dy >= height || x + dx < 0 || x + dx >= width) continue;
      const other = objects[i + dy * width + dx];
      if (!other || other === one) continue;
      near[one].add(other);
      (near[other] ??= new Set()).add(one);
    }
  }
  const chosen = [];
  near.forEach((others, id) => {
    const taken = new Set([...others].map((other) => chosen[other]));
    const start = id % OBJECT_COLOURS.length; // all colours are used equally often
    const order = OBJECT_COLOURS.map((_, k) => (start + k) % OBJECT_COLOURS.length);
    chosen[id] = order.find((k) => !taken.has(k)) ?? start;
  });
  return chosen.map((k) => brighten(OBJECT_COLOURS[k]));
}

/** Mixes a dark colour with white. */
function brighten(colour) {
  const luma = (299 * colour[0] + 587 * colour[1] + 114 * colour[2]) / 1000;
  const share = Math.max((LEAST_LUMA - luma) / (255 - luma), 0);
  return colour.map((part) => part + share * (255 - part));
}

/** Returns the probabilities of a class, `f32[H, W]`. */
export function pickProbability(prediction, model, size, id) {
  const channel = model.kind === "objects" ? prediction.length / size - 1 : id;
  return prediction.subarray(channel * size, (channel + 1) * size);
}

/** Returns numbers that are 0 outside of a class, and differ between its objects. */
function pickIds(label, objects, model, size, id) {
  if (objects) return objects;
  if (model.kind === "independent") return label.subarray(id * size, (id + 1) * size);
  return label.map((x) => Number(x === id));
}

/** Returns true if another id is nearer than the thickness of an outline. */
function isEdge(ids, i, height, width, thick) {
  const [y, x] = [Math.floor(i / width), i % width];
  for (let step = 1; step <= thick; step++) {
    if (y >= step && ids[i - step * width] !== ids[i]) return true;
    if (y + step < height && ids[i + step * width] !== ids[i]) return true;
    if (x >= step && ids[i - step] !== ids[i]) return true;
    if (x + step < width && ids[i + step] !== ids[i]) return true;
  }
  return false;
}

function put(canvas, picture) {
  [canvas.width, canvas.height] = [picture.width, picture.height];
  canvas.getContext("2d").putImageData(picture, 0, 0);
}
