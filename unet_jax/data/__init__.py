"""Data sets: each function here makes the `Splits` of one.

A spec names it: `{'name': 'isbi2012', 'fold': 3}`. `datasets/` has public and synthetic
sets, `folders/` the user's own images, and `files/` the readers of all image formats.
The other files turn records into batches:

  source.py         the form of every data set: sources that load records
  record.py         one record, and its measurements
  dataset_report.py measurements and problems of a whole set
  label_map.py      mask values -> class ids; names and colours of classes
  splitting.py      rules that divide records into training, validation and test
  duplicates.py     equal and nearly equal images
  normalize.py      raw pixels -> the numbers that the network sees
  resample.py       pixels of one size -> pixels of another
  weights.py        the weight of each pixel in the loss
  sampling.py       the positions of training crops
  examples.py       records -> examples: checked, resampled, normalised, with weights
  pipeline.py       examples -> batch = f(seed, step)
  record_file.py    records in a file, for fast reading
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_jax.data.datasets.cell_tracking import dic_hela, phc_u373
    from unet_jax.data.datasets.cells import cells
    from unet_jax.data.datasets.dsb2018 import dsb2018
    from unet_jax.data.datasets.isbi2012 import isbi2012
    from unet_jax.data.datasets.tfds import tfds
    from unet_jax.data.folders.folder import folder

__all__ = [
    "cells",
    "dic_hela",
    "dsb2018",
    "folder",
    "isbi2012",
    "phc_u373",
    "tfds",
]

_MODULES = {
    "cells": "datasets.cells",
    "dic_hela": "datasets.cell_tracking",
    "dsb2018": "datasets.dsb2018",
    "folder": "folders.folder",
    "isbi2012": "datasets.isbi2012",
    "phc_u373": "datasets.cell_tracking",
    "tfds": "datasets.tfds",
}


def __getattr__(name: str) -> Any:
    """Imports a data set when it is used: paths are checked without all of them."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
