/**
 * Normalises whole images as `unet_jax/data/normalize.py`, in float64.
 *
 * The whole image is measured before it is cut into tiles, so that its tiles do not
 * change the result.
 */

const MEASURES = {
  fixed,
  percentile: measurePercentiles,
  standard: measureDeviation,
};

/** Returns true if the page has the normalisation of this name. */
export function hasNormalization(name) {
  return Object.hasOwn(MEASURES, name);
}

/** Returns the numbers that the network sees, `f32[C, H, W]`, channels first. */
export function normalize(image, spec) {
  const { data, channels } = image;
  const pixels = image.height * image.width;
  const result = new Float32Array(channels * pixels);
  for (let c = 0; c < channels; c++) {
    const channel = new data.constructor(pixels);
    for (let i = 0; i < pixels; i++) channel[i] = data[i * channels + c];
    const measure = MEASURES[spec.name];
    const scale = measure(channel, spec, c);
    const { offset, width, clip, low = -Infinity, high = Infinity } = scale;
    if (width === 0) continue; // a constant channel becomes 0
    for (let i = 0; i < pixels; i++) {
      const raw = Math.min(Math.max(channel[i], low), high);
      let value = (raw - offset) / width;
      if (clip) value = Math.min(Math.max(value, 0), 1);
      result[c * pixels + i] = value;
    }
  }
  return result;
}

/** Measures the mean and the standard deviation; the width of a constant is 0. */
function measureDeviation(channel) {
  let [sum, squares, low, high] = [0, 0, Infinity, -Infinity];
  for (const value of channel) {
    sum += value;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  const offset = sum / channel.length;
  for (const value of channel) squares += (value - offset) ** 2;
  return { offset, width: high > low ? Math.sqrt(squares / channel.length) : 0 };
}

/** Reads the numbers of the model: one for each channel, one for all, or none. */
function fixed(channel, { mean, std, low, high }, index) {
  const pick = (numbers, otherwise) =>
    numbers[numbers.length === 1 ? 0 : index] ?? otherwise;
  return {
    offset: pick(mean, 0),
    width: pick(std, 1),
    low: pick(low, -Infinity),
    high: pick(high, Infinity),
  };
}

/** Maps two percentiles to 0 and 1. */
function measurePercentiles(channel, { low, high }) {
  const ordered = Float32Array.from(channel).sort();
  const [bottom, top] = [low, high].map((percent) => {
    const place = (percent / 100) * (ordered.length - 1);
    const [below, above] = [ordered[Math.floor(place)], ordered[Math.ceil(place)]];
    return below + (place - Math.floor(place)) * (above - below);
  });
  return { offset: bottom, width: top - bottom, clip: true };
}
