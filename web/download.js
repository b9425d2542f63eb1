/** The files that can be downloaded. */

import { userError } from "./errors.js";
import { writeNpy } from "./npy.js";
import { writePng } from "./png.js";

/**
 * Returns the buttons: `{text, name, make}` for each, where `make(result)` returns the
 * file, and `name` is the end of its name.
 */
export function listDownloads(model) {
  const probabilities = {
    text: "Probabilities (.npy)",
    name: "_probabilities.npy",
    make: ({ prediction, image }) => makeArray(prediction, image),
  };
  if (model.kind === "objects") {
    return [
      { text: "Objects (16-bit PNG)", name: "_instances.png", make: makeObjects },
      { text: "Labels (PNG)", name: "_labels.png", make: makeLabels },
      { ...probabilities, text: "Prediction (.npy)", name: "_prediction.npy" },
    ];
  }
  if (model.kind === "independent") {
    const labels = {
      text: "Labels (.npy)",
      name: "_labels.npy",
      make: ({ label, image }) => makeArray(Uint8Array.from(label), image),
    };
    return [labels, probabilities];
  }
  return [
    { text: "Labels (PNG)", name: "_labels.png", make: makeLabels },
    probabilities,
  ];
}

/** Saves a file through the browser. */
export function save(file, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(file);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Returns the class ids, of 8 bits if they fit. */
async function makeLabels({ label, image }) {
  const few = label.every((id) => id < 256);
  const pixels = few ? Uint8Array.from(label) : label;
  return writePng(pixels, image.height, image.width);
}

async function makeObjects({ objects, image }) {
  if (objects.some((id) => id > 65535)) {
    throw userError("There are more than 65535 objects. A PNG cannot number them.");
  }
  return writePng(Uint16Array.from(objects), image.height, image.width);
}

/** Returns `[K, H, W]` as the file of an array `[H, W, K]`, as that of `Predictor`. */
async function makeArray(planes, { height, width }) {
  const size = height * width;
  const channels = planes.length / size;
  const array = new planes.constructor(planes.length);
  for (let k = 0; k < channels; k++) {
    for (let i = 0; i < size; i++) array[i * channels + k] = planes[k * size + i];
  }
  return writeNpy(array, [height, width, channels]);
}
