/**
 * Decides the classes of pixels from a prediction, and finds the objects.
 *
 * A segmentation is `{label, objects}`. `label` is `u16[H, W]` of class ids, or
 * `u16[K, H, W]` of 0 and 1 if classes may overlap. `objects` is `i32[H, W]`, 0 for the
 * background, if the model finds objects, else null.
 */

import { labelComponents } from "./components.js";
import { findObjects } from "./objects.js";

/**
 * Returns the threshold of a model: its meaning, its first value and its default.
 *
 * With the default, the result is that of `Predictor`.
 */
export function describeThreshold(model) {
  if (model.kind === "objects") {
    return {
      text: "Probability of an object, above",
      value: model.options.probability,
    };
  }
  if (model.kind === "independent") {
    return { text: "Probability of a class, above", value: 0.5 };
  }
  if (isBinary(model)) {
    return { text: `Probability of ${model.classes[1]}, above`, value: 0.5 };
  }
  return { text: "Probability of the most likely class, at least", value: 0 };
}

/** Segments a prediction `f32[K, H, W]`. */
export function segment(prediction, model, height, width, threshold) {
  const size = height * width;
  const channels = prediction.length / size;
  if (model.kind === "objects") {
    const probability = prediction.subarray((channels - 1) * size);
    const inside = Uint8Array.from(probability, (p) => p > Math.fround(threshold));
    const vectors = prediction.subarray(0, (channels - 1) * size);
    const objects = findObjects(vectors, inside, height, width, model.options);
    return { label: Uint16Array.from(objects, (id) => id > 0), objects };
  }
  if (model.kind === "independent") {
    return { label: Uint16Array.from(prediction, (p) => p > threshold), objects: null };
  }
  const label = new Uint16Array(size);
  const binary = isBinary(model) && threshold !== describeThreshold(model).value;
  for (let i = 0; i < size; i++) {
    let best = 0;
    for (let k = 1; k < channels; k++) {
      if (prediction[k * size + i] > prediction[best * size + i]) best = k;
    }
    if (binary) best = Number(prediction[size + i] > threshold);
    else if (prediction[best * size + i] < threshold) best = 0;
    label[i] = best;
  }
  return { label, objects: null };
}

/**
 * Counts the pixels and the objects of each class of `model.shown`.
 *
 * Without objects of the model, they are the components that are connected through
 * faces.
 */
export function countClasses({ label, objects }, model, height, width) {
  const size = height * width;
  return model.shown.map(({ id }) => {
    const mask = maskClass(label, model, size, id);
    const pixels = mask.reduce((sum, x) => sum + x, 0);
    let count;
    if (objects) count = objects.reduce((most, id) => Math.max(most, id), 0);
    else count = labelComponents(mask, height, width, false).count;
    return { pixels, objects: count };
  });
}

/** Returns `u8[H, W]`, 1 in a class. */
function maskClass(label, model, size, id) {
  if (model.kind !== "independent") return Uint8Array.from(label, (x) => x === id);
  return Uint8Array.from(label.subarray(id * size, (id + 1) * size));
}

/** Returns true for one class against a background. */
function isBinary(model) {
  return model.kind === "exclusive" && model.background && model.classes.length === 2;
}
