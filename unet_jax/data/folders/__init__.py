"""The data set of a folder of the user's own images."""

from unet_jax.data.folders.folder import folder

__all__ = ["folder"]
