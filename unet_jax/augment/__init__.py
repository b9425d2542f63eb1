"""Augmentation on the device: pure functions of one example, for images and volumes.

An operation is `(key, example, *, <numbers>) -> example`. It draws its own numbers
from the key, keeps every shape and dtype, and runs under `jit` and `vmap`:

    augment = chain([(1.0, elastic), (1.0, rotation), (0.5, gamma)])
    batch = jax.vmap(augment)(keys, batch)

The names in `__all__` are those that a spec may use. All spatial arrays of an example
move together, in the order in which the operations are listed, and however many of them
move the pixels, the pixels are interpolated once: see `warp.py`.
"""

from unet_jax.augment.combine import Op as Op
from unet_jax.augment.combine import chain as chain
from unet_jax.augment.geometry import elastic, flip, rotation, scale, shift, turn
from unet_jax.augment.intensity import blur, brightness, contrast, gamma, noise

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
