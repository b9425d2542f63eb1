"""Networks, for any number of spatial axes.

A network is a Flax module with

- a call `(image, *, train=False, seed=None, time=None) -> logits`, from `f32[B, *S, C]`
  to `f32[B, *(S - 2 margin), K]`. `train` turns on dropout and batch statistics.
  `seed u32[B]` determines the dropout masks of the examples. `time f32[B]` is the time
  of a diffusion, for networks that read one. With deep supervision the call returns a
  tuple of logits in training, the finest first; element i belongs to level i of the
  geometry;
- `geometry(axes) -> Geometry`, the input and output sizes for images with `axes`
  spatial axes. It raises UserError if the fields do not fit that number;
- `fault() -> str | None`, one line that says which field is wrong and why, starting
  with the name of the field; None if all fields are valid;
- the fields `outputs` (K), `dtype` (of the computation) and `axis_name` (of the devices
  that share batch statistics). The builder sets these three, the user all others.
"""

from unet_jax.models.unet import UNet

__all__ = ["UNet"]
