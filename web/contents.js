/** Fills the parts of the page that depend on the model and on the result. */

import { listDownloads, save } from "./download.js";

const $ = (id) => document.getElementById(id);

/** Describes the model, in the heading and beside the image. */
export function describeModel(model, bytes) {
  const names = model.shown.map((one) => one.name);
  $("finds").textContent = summarize(names);
  const facts = [
    ["Name", model.name],
    ["Finds", names.join(", ")],
    ["Image", model.channels === 1 ? "grey, 1 channel" : `${model.channels} channels`],
    ["File", `${(bytes / 1e6).toFixed(1)} MB`],
  ];
  // the page does not resample
  if (model.spacing.length)
    facts.push(["Pixels", `${model.spacing.join(" × ")} in size`]);
  const rows = facts.map(([term, fact]) => {
    const row = document.createElement("div");
    row.appendChild(document.createElement("dt")).textContent = term;
    row.appendChild(document.createElement("dd")).textContent = fact;
    return row;
  });
  $("model").replaceChildren(...rows);
  $("classes").replaceChildren();
}

/** Writes the table of classes; a box that was unchecked stays so. */
export function fillClasses(model, { counts, image }) {
  const before = [...$("classes").querySelectorAll("input")].map((box) => box.checked);
  const rows = model.shown.map(({ name, colour }, i) => {
    const row = document.createElement("tr");
    const [head, objects, area] = ["th", "td", "td"].map((tag) =>
      row.appendChild(document.createElement(tag)),
    );
    head.scope = "row";
    const label = head.appendChild(document.createElement("label"));
    const box = label.appendChild(document.createElement("input"));
    [box.type, box.checked] = ["checkbox", before[i] ?? true];
    const swatch = label.appendChild(document.createElement("span"));
    swatch.className = "swatch";
    swatch.hidden = model.kind === "objects"; // each object has its own colour
    swatch.style.background = `rgb(${colour.join(" ")})`;
    label.append(name);
    objects.textContent = counts[i].objects.toLocaleString("en");
    const share = (100 * counts[i].pixels) / (image.height * image.width);
    area.textContent = `${share.toFixed(1)} %`;
    return row;
  });
  const focus = [...$("classes").querySelectorAll("input")].indexOf(
    document.activeElement,
  );
  $("classes").replaceChildren(...rows);
  $("classes").querySelectorAll("input")[focus]?.focus();
}

/** Writes the buttons for downloads. */
export function fillDownloads(model, result, getStem, onError) {
  const buttons = listDownloads(model).map(({ text, name, make }) => {
    const button = document.createElement("button");
    button.className = "button";
    button.textContent = text;
    button.addEventListener("click", async () => {
      try {
        save(await make(result), getStem() + name);
      } catch (error) {
        onError(error);
      }
    });
    return button;
  });
  $("downloads").replaceChildren(...buttons);
}

/** Returns words for the heading, such as "cells" or "3 classes". */
function summarize(names) {
  if (names.length > 1) return `${names.length} classes`;
  return names[0].endsWith("s") ? names[0] : `${names[0]}s`;
}
