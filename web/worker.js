/**
 * Computes, so that the page stays responsive. It answers each message with a result or
 * an error, and sends progress in between. To cancel, the page ends it.
 */

import { explain, userError } from "./errors.js";
import { convertChannels, readImage } from "./image.js";
import { countClasses, describeThreshold, segment } from "./labels.js";
import { checkSession, readModel } from "./model.js";
import { normalize } from "./normalize.js";
import { predictTiles } from "./tiles.js";

const RUNTIME = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const MAX_THREADS = 4;
const TASKS = { load, predict, segment: segmentAgain };

let runtime, session, model, prediction, size;

self.onmessage = async ({ data: { task, ...content } }) => {
  try {
    const { result, transfer } = await TASKS[task](content);
    self.postMessage({ result }, transfer ?? []);
  } catch (error) {
    self.postMessage({ error: explain(error) });
  }
};

/** Loads a model from the bytes of model.onnx and the text of model.json. */
async function load({ onnx, json }) {
  const loaded = readModel(json);
  runtime ??= await loadRuntime();
  let created;
  try {
    created = await runtime.InferenceSession.create(new Uint8Array(onnx), {
      executionProviders: ["wasm"],
      logSeverityLevel: 3, // errors
    });
  } catch {
    throw userError("model.onnx is damaged, or no ONNX file. Copy it again.");
  }
  checkSession(created, loaded);
  await session?.release();
  [session, model, prediction] = [created, loaded, undefined];
  return { result: model };
}

/** Predicts an image file, from its bytes. */
async function predict({ bytes, threshold }) {
  report("Reading the image", 0);
  const image = await readImage(new Uint8Array(bytes));
  const seen = convertChannels(image, model.channels, model.converts);
  const { height, width } = image;
  const shape = { height, width, channels: model.channels };
  self.postMessage({ progress: { text: "Normalising the image", share: 0, image } });
  const pixels = normalize(seen, model.normalize);
  const found = await predictTiles(
    pixels,
    shape,
    model.rules,
    computeTile,
    (done, all) =>
      report(`Predicting tile ${Math.min(done + 1, all)} of ${all}`, done / all),
  );
  if (!found.every(Number.isFinite)) {
    throw userError("The prediction is not finite: numbers in the network overflow.");
  }
  [prediction, size] = [found, { height, width }];
  const answer = segmentAgain({ threshold });
  const copy = prediction.slice();
  return {
    result: { prediction: copy, ...answer.result },
    transfer: [...answer.transfer, copy.buffer],
  };
}

/** Segments the last prediction again; returns null if there is none. */
function segmentAgain({ threshold }) {
  if (!prediction) return { result: null };
  if (model.kind === "objects") report("Finding objects", 1);
  const { height, width } = size;
  const limit = threshold ?? describeThreshold(model).value;
  const { label, objects } = segment(prediction, model, height, width, limit);
  const counts = countClasses({ label, objects }, model, height, width);
  const transfer = [label.buffer, ...(objects ? [objects.buffer] : [])];
  return { result: { label, objects, counts }, transfer };
}

async function computeTile(tile, height, width) {
  const dims = [1, model.channels, height, width];
  const input = new runtime.Tensor("float32", tile, dims);
  let results;
  try {
    results = await session.run({ [model.input]: input });
  } catch (error) {
    throw userError(
      `The network cannot be computed here (${String(error.message).slice(0, 80)}). ` +
        "Its tiles may need more memory than the browser gives: close other pages, or " +
        "predict the image with main.py --mode=predict.",
    );
  }
  const output = results[model.output];
  const { data } = output;
  const kept = data.slice();
  output.dispose();
  return kept;
}

/** Loads onnxruntime-web; several threads need a page that its headers isolate. */
async function loadRuntime() {
  let loaded;
  try {
    loaded = await import(new URL("ort.wasm.min.mjs", RUNTIME));
  } catch {
    throw userError(
      "onnxruntime-web is missing. Run ./launch.sh web, which installs it.",
    );
  }
  const { wasm } = loaded.env;
  wasm.wasmPaths = RUNTIME.href;
  const cores = Math.min(navigator.hardwareConcurrency ?? 1, MAX_THREADS);
  wasm.numThreads = self.crossOriginIsolated ? cores : 1;
  return loaded;
}

function report(text, share) {
  self.postMessage({ progress: { text, share } });
}
