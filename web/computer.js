/** Talks to the worker: one question at a time; the next ones wait. */

import { userError } from "./errors.js";

/**
 * Returns `{ask, cancel}`.
 *
 * `ask(task, content)` resolves to the result, or rejects with the line of an
 * error. `cancel()` ends the worker, and with it the question, which resolves to null.
 *
 * @param onProgress is called with `{text, share}`
 */
export function createComputer(onProgress) {
  let worker = null;
  let settle = null;

  function start() {
    worker = new Worker(new URL("worker.js", import.meta.url), { type: "module" });
    worker.onmessage = ({ data }) => {
      if (data.progress) onProgress(data.progress);
      else if (data.error) settle?.reject(userError(data.error));
      else settle?.resolve(data.result);
    };
    worker.onerror = () => {
      settle?.reject(
        userError("The page cannot start its worker. Update the browser."),
      );
    };
  }

  let last = Promise.resolve();

  function ask(task, content) {
    const answer = last.then(() => {
      if (!worker) start();
      return new Promise((resolve, reject) => {
        settle = { resolve, reject };
        worker.postMessage({ task, ...content });
      });
    });
    last = answer.catch(() => {});
    return answer;
  }

  function cancel() {
    worker?.terminate();
    worker = null;
    settle?.resolve(null);
  }

  return { ask, cancel };
}
