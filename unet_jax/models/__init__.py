"""Networks: `(image, *, train) -> logits`, for any number of spatial axes."""

from unet_jax.models.unet import UNet

__all__ = ["UNet"]
