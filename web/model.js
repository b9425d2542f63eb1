/** Reads model.json, which `--config.export.formats=web` writes. */

import { userError } from "./errors.js";
import { hasNormalization } from "./normalize.js";

const VERSION = 1; // of the keys that this page reads
const KINDS = ["exclusive", "independent", "objects"];
const EXPORT = "Export it again with --config.export.formats=\"('web',)\".";
// Okabe and Ito 2008, for classes without a colour that is visible on grey.
// prettier-ignore
const COLOURS = [
  [230, 159, 0], [86, 180, 233], [0, 158, 115], [240, 228, 66], [0, 114, 178],
  [213, 94, 0], [204, 121, 167],
];
const MIN_CHROMA = 40; // largest minus smallest of red, green and blue

/**
 * Returns the parts of model.json that the page needs.
 *
 * `shown` has the classes other than a background, each with its id, its name and its
 * colour. `rules` are those of `predictTiles`, `options` those of the task.
 */
export function readModel(text) {
  let about;
  try {
    about = JSON.parse(text);
  } catch {
    throw userError("model.json is no JSON. Copy it again.");
  }
  if (!about?.page) {
    throw userError(
      `model.json is not of a model for this page, which normalises images. ${EXPORT}`,
    );
  }
  if (about.page.version !== VERSION || !KINDS.includes(about.page.kind)) {
    throw userError(`model.json is of another version of the page. ${EXPORT}`);
  }
  try {
    return describe(about);
  } catch (error) {
    if (error instanceof TypeError) {
      throw userError(`model.json lacks a key that the page reads. ${EXPORT}`);
    }
    throw error;
  }
}

/** Throws an error if model.onnx does not fit to model.json. */
export function checkSession(session, model) {
  const input = session.inputMetadata?.[0];
  const fits =
    session.inputNames.length === 1 &&
    session.inputNames[0] === model.input &&
    session.outputNames.includes(model.output) &&
    (!input?.shape || input.shape[1] === model.channels);
  if (!fits) {
    throw userError(
      "model.onnx does not fit to model.json. Load the two files of one export.",
    );
  }
}

function describe(about) {
  const { page, network, classes } = about;
  if (!hasNormalization(about.normalize.name)) {
    throw userError(`The page has no normalisation ${about.normalize.name}. ${EXPORT}`);
  }
  const blend = page.blend || network.halo === null;
  const offset =
    page.kind === "independent" ? about.colours.length - classes.length : 0;
  const shown = classes
    .map((name, id) => ({
      id,
      name: String(name),
      colour: chooseColour(about.colours[id + offset], id),
    }))
    .slice(about.background ? 1 : 0);
  return {
    name: String(about.name),
    kind: page.kind,
    classes: classes.map(String),
    background: about.background,
    shown,
    input: about.input.name,
    output: about.output.name,
    channels: network.channels,
    converts: about.converts_channels || about.input.channels !== network.channels,
    spacing: about.input.spacing,
    normalize: about.normalize,
    rules: {
      halo: blend ? network.multiple.map(() => 0) : network.halo.map(Number),
      multiple: network.multiple,
      blend,
    },
    options: about.task_options,
    hasExample: about.example === true, // example.png beside model.json
  };
}

/** Returns the colour of a class, or another one if it is hard to see on grey. */
function chooseColour(colour, id) {
  const vivid = colour && Math.max(...colour) - Math.min(...colour) >= MIN_CHROMA;
  return vivid ? colour : COLOURS[id % COLOURS.length];
}
