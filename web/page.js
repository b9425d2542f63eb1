/** The page: reads its controls, asks the worker, and shows the result. */

import { createComputer } from "./computer.js";
import { fillClasses, fillDownloads, describeModel } from "./contents.js";
import { colourObjects, drawImage, drawOverlay, pickProbability } from "./draw.js";
import { explain, userError } from "./errors.js";
import { describeThreshold } from "./labels.js";

const MODEL = "model/"; // the folder of the model that is loaded first
const PARTS = ["controls", "drop", "again", "load"]; // at rest while the page is busy
const $ = (id) => document.getElementById(id);
const computer = createComputer(showProgress);

let files = null; // of the model: {onnx, json}
let model = null; // null if the worker must load it again
let result = null; // {image, prediction, label, objects, counts}
let shownImage = null; // also while it is predicted
let colours = []; // of objects
let name = ""; // of the image, without its ending
let chosen = null; // the threshold; null for that of the model
let segmenting = false;

start();

async function start() {
  listen();
  await attempt("Loading the model", async () => {
    const [onnx, json] = await Promise.all(
      ["model.onnx", "model.json"].map((file) => fetch(MODEL + file)),
    );
    if (!onnx.ok || !json.ok) {
      throw userError("The page has no model yet. Load model.onnx and model.json.");
    }
    await loadModel({ onnx: await onnx.arrayBuffer(), json: await json.text() });
    if (!model?.hasExample) return;
    $("example").querySelector("img").src = `${MODEL}example.png`;
    $("example").hidden = false;
  });
}

function listen() {
  for (const id of ["choose", "chooseAgain", "chooseModel"]) {
    $(id).addEventListener("change", (event) => {
      take([...event.target.files]);
      event.target.value = ""; // so that the same file can be chosen again
    });
  }
  $("example").addEventListener("click", () =>
    attempt("Loading the example", async () => {
      const answer = await fetch(`${MODEL}example.png`);
      await predict(await answer.arrayBuffer(), "example");
    }),
  );
  $("cancel").addEventListener("click", () => {
    computer.cancel();
    model = null;
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
  document.addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) document.body.classList.remove("dragging");
  });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dragging");
    take([...event.dataTransfer.files]);
  });
  $("mode").addEventListener("change", draw);
  $("classes").addEventListener("change", draw);
  $("zoom").addEventListener("change", resize);
  $("opacity").addEventListener("input", showOpacity);
  $("threshold").addEventListener("input", () =>
    changeThreshold(Number($("threshold").value)),
  );
  $("reset").addEventListener("click", () => changeThreshold(null));
  $("overlay").addEventListener("pointermove", showPixel);
  $("overlay").addEventListener(
    "pointerleave",
    () => ($("readout").textContent = size()),
  );
  new ResizeObserver(resize).observe($("figure"));
}

/** Takes files that were chosen or dropped: an image, or the two files of a model. */
function take(taken) {
  if (!taken.length || !$("busy").hidden) return;
  const ending = (file) => file.name.toLowerCase().split(".").pop();
  const [onnx, json] = ["onnx", "json"].map((e) => taken.find((f) => ending(f) === e));
  attempt("Loading", async () => {
    if (onnx || json) {
      if (!onnx || !json) {
        throw userError(
          "Choose the two files of a model together: model.onnx and model.json.",
        );
      }
      await loadModel({ onnx: await onnx.arrayBuffer(), json: await json.text() });
      $("example").hidden = true; // it is an image for another model
      showDrop();
    } else if (taken.length > 1) {
      throw userError("The page predicts one image at a time. Choose one file.");
    } else {
      const stem = taken[0].name.replace(/\.[^.]+$/, "");
      await predict(await taken[0].arrayBuffer(), stem);
    }
  });
}

/** Does something that can fail; shows that it is busy, and then the error, if any. */
async function attempt(text, action) {
  $("error").hidden = true;
  showProgress({ text, share: 0 });
  $("busy").hidden = false;
  for (const id of PARTS) $(id).inert = true;
  try {
    await action();
  } catch (error) {
    showError(error);
    if (!result) showDrop();
  } finally {
    $("busy").hidden = true;
    for (const id of PARTS) $(id).inert = false;
  }
}

function showError(error) {
  $("error").textContent = explain(error);
  $("error").hidden = false;
}

async function loadModel(loaded) {
  const answer = await computer.ask("load", loaded);
  files ??= loaded; // also if it was cancelled
  if (!answer) return;
  [files, model] = [loaded, answer];
  describeModel(model, loaded.onnx.byteLength);
  $("thresholdText").textContent = describeThreshold(model).text;
  chosen = null;
  showThreshold();
}

async function predict(bytes, stem) {
  if (!files) throw userError("Load a model first: model.onnx and model.json.");
  if (!model) await loadModel(files);
  if (!model) return showDrop();
  const answer = await computer.ask("predict", { bytes, threshold: chosen });
  if (!answer) return showDrop();
  name = stem;
  result = { image: shownImage, ...answer };
  fillDownloads(model, result, () => name, showError);
  showResult();
  $("controls").hidden = false;
}

function showProgress({ text, share, image }) {
  $("status").textContent = text;
  $("progress").value = share;
  if (!image) return;
  [shownImage, result] = [image, null];
  drawImage($("image"), image);
  $("overlay").width = 0;
  $("drop").hidden = $("controls").hidden = true;
  $("figure").hidden = $("again").hidden = false;
  $("readout").textContent = size();
  resize();
}

/** Shows the page without an image. */
function showDrop() {
  result = shownImage = null;
  $("drop").hidden = false;
  $("figure").hidden = $("again").hidden = $("controls").hidden = true;
}

function showResult() {
  const { image, objects } = result;
  colours = colourObjects(objects, image.height, image.width);
  fillClasses(model, result);
  draw();
}

/** Segments again; while this runs, the last change waits. */
async function changeThreshold(value) {
  chosen = value;
  showThreshold();
  if (segmenting || !result) return;
  segmenting = true;
  try {
    const answer = await computer.ask("segment", { threshold: value });
    if (answer && result) {
      Object.assign(result, answer);
      showResult();
    }
  } catch (error) {
    showError(error);
  }
  segmenting = false;
  if (result && chosen !== value) changeThreshold(chosen);
}

function showThreshold() {
  const value = chosen ?? describeThreshold(model).value;
  $("threshold").value = value;
  $("thresholdValue").textContent = value.toFixed(2);
  $("reset").hidden = chosen === null;
}

function showOpacity() {
  $("overlay").style.opacity = $("opacity").value;
  $("opacityValue").textContent = `${Math.round(100 * $("opacity").value)} %`;
}

function draw() {
  if (!result) return;
  const mode = $("mode").querySelector(":checked").value;
  const boxes = [...$("classes").querySelectorAll("input")];
  const drawn = model.shown.filter((_, i) => boxes[i].checked);
  drawOverlay($("overlay"), result, model, mode, drawn, colours);
  showOpacity();
}

/** Gives the canvases their size: that of the space, or a factor. */
function resize() {
  if (!shownImage) return;
  const { height, width } = shownImage;
  const factor = Number($("zoom").querySelector(":checked").value);
  const space = $("view").clientWidth / width;
  const scale = factor || Math.min(space, (0.7 * innerHeight) / height);
  $("layers").style.width = `${Math.floor(width * scale)}px`;
  $("layers").style.height = `${Math.floor(height * scale)}px`;
}

function size() {
  return shownImage ? `${shownImage.width} × ${shownImage.height} pixels` : "";
}

/** Shows the class and the probability under the pointer. */
function showPixel(event) {
  if (!result) return;
  const { image, label, objects, prediction } = result;
  const box = $("overlay").getBoundingClientRect();
  const place = (position, length, pixels) =>
    Math.min(Math.max(Math.floor((position / length) * pixels), 0), pixels - 1);
  const x = place(event.clientX - box.left, box.width, image.width);
  const y = place(event.clientY - box.top, box.height, image.height);
  const [i, pixels] = [y * image.width + x, image.height * image.width];
  const parts = model.shown.map(({ id, name }) => {
    const p = pickProbability(prediction, model, pixels, id)[i].toFixed(2);
    return `${name} ${p}`;
  });
  if (objects && label[i]) parts.push(`object ${objects[i]}`);
  $("readout").textContent = `x ${x}, y ${y}: ${parts.slice(0, 4).join(", ")}`;
}
