"""Data sets: each function here gives the `Splits` of one.

A spec names it, `{'name': 'isbi2012', 'fold': 3}`. The functions must not share a
name with a module of this package, or importing that module would hide them: hence
`synthetic`, `microscopy`, `catalogue` and, one level down, the TFDS builders.
"""

from unet_jax.data.catalogue import tfds
from unet_jax.data.folders import folder
from unet_jax.data.microscopy import dic_hela, isbi2012, phc_u373
from unet_jax.data.nuclei import dsb2018
from unet_jax.data.synthetic import cells, noisy_cells

__all__ = [
    "cells",
    "dic_hela",
    "dsb2018",
    "folder",
    "isbi2012",
    "noisy_cells",
    "phc_u373",
    "tfds",
]
