"""A person's own images and masks: found, paired, read through, mapped and split."""

from unet_jax.data.folders.folder import folder

__all__ = ["folder"]
