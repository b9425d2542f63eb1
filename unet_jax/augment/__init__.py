"""Augmentation on the device: pure functions of one example, for images and volumes.

An operation is `(key, example, *, <options>) -> example`. It draws its random numbers
from the key, keeps every shape and dtype, and runs under `jit` and `vmap`:

    augment = compose([(1.0, elastic), (1.0, rotation), (0.5, gamma)])
    batch = jax.vmap(augment)(keys, batch)

A spec may name the functions in `__all__`. All spatial arrays of an example are
transformed together, in the order of the operations. The displacements of several
operations are combined, so that the pixels are interpolated only once: see
`displacement.py`.
"""

from unet_jax.augment import intensity, resolution, spatial
from unet_jax.augment.combine import Operation as Operation
from unet_jax.augment.combine import compose as compose
from unet_jax.augment.intensity import *
from unet_jax.augment.resolution import *
from unet_jax.augment.spatial import *

__all__: list[str] = []
__all__ += intensity.__all__
__all__ += resolution.__all__
__all__ += spatial.__all__
