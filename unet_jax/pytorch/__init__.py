"""Brings weights of PyTorch programs in, without PyTorch and without running code.

A checkpoint is read as data (`checkpoint_file.py`, `unpickling.py`). The network is
recognised by the names and shapes of its tensors (`recognition.py`). Each architecture
has a file that says which of our variables its tensors become.
"""

from unet_jax.pytorch.architecture import Architecture
from unet_jax.pytorch.nnunet import holds_plans
from unet_jax.pytorch.recognition import Imported, recognise
from unet_jax.pytorch.resnet import adapt_channels

__all__ = ["Architecture", "Imported", "adapt_channels", "holds_plans", "recognise"]
