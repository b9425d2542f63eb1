"""Data sets: each function here gives the `Splits` of one.

A spec names it, `{'name': 'isbi2012', 'fold': 3}`. The functions must not share a
name with a module of this package, or importing that module would hide them: hence
`synthetic`, `prepared` and, one level down, the TFDS builders.
"""

from unet_jax.data.prepared import isbi2012
from unet_jax.data.synthetic import cells

__all__ = ["cells", "isbi2012"]
