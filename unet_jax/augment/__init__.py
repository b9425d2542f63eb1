"""Augmentation on the device: pure functions of one example, for images and volumes.

An operation is `(key, example, *, <numbers>) -> example`. It draws its own numbers
from the key, keeps every shape and dtype, and runs under `jit` and `vmap`:

    augment = compose([(1.0, elastic), (1.0, rotation), (0.5, gamma)])
    batch = jax.vmap(augment)(keys, batch)

The names in `__all__` are those that a spec may use. All spatial arrays of an example
move together, in the order in which the operations are listed, and however many of them
move the pixels, the pixels are interpolated once: see `warp.py`.
"""

from unet_jax.augment.combine import Operation as Operation
from unet_jax.augment.combine import compose as compose
from unet_jax.augment.intensity import blur, brightness, contrast, gamma, noise
from unet_jax.augment.spatial import elastic, flip, rotation, scale, shift, turn

__all__ = [
    "blur",
    "brightness",
    "contrast",
    "elastic",
    "flip",
    "gamma",
    "noise",
    "rotation",
    "scale",
    "shift",
    "turn",
]
