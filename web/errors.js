/** The errors that the page shows as they are. */

const NAME = "UserError";

/** Returns an error whose text tells what is wrong, and what to do. */
export function userError(text) {
  const error = new Error(text);
  error.name = NAME;
  return error;
}

/** Returns the line that the page shows for any error. */
export function explain(error) {
  if (error?.name === NAME) return error.message;
  const text = error?.message ?? String(error);
  return `The page failed: ${text}. Reload it; if it fails again, report this line.`;
}
