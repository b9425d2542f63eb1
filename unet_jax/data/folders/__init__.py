"""Folders of the user's own images: found, paired, read through, mapped and split."""

from unet_jax.data.folders.folder import folder

__all__ = ["folder"]
