/** Connected components. */

/**
 * Numbers the components of a mask from 1, in the order of their first pixels.
 *
 * @param mask `u8[H, W]`
 * @param diagonal true to connect pixels through corners, too
 * @returns `{parts: i32[H, W], count}`
 */
export function labelComponents(mask, height, width, diagonal) {
  const parts = new Int32Array(mask.length);
  const stack = [];
  let count = 0;
  for (let first = 0; first < mask.length; first++) {
    if (!mask[first] || parts[first]) continue;
    parts[first] = ++count;
    stack.push(first);
    while (stack.length) {
      const place = stack.pop();
      const [y, x] = [Math.floor(place / width), place % width];
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          if (!diagonal && dy && dx) continue;
          if (y + dy < 0 || y + dy >= height || x + dx < 0 || x + dx >= width) continue;
          const other = place + dy * width + dx;
          if (!mask[other] || parts[other]) continue;
          parts[other] = count;
          stack.push(other);
        }
      }
    }
  }
  return { parts, count };
}
