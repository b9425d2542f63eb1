"""Networks, for any number of spatial axes.

A network is a Flax module with

- a call `(image, *, train=False, seed=None, time=None) -> logits`, from
  `f32[B, *S, C]` to `f32[B, *(S - 2 margin), K]`. `train` turns dropout and batch
  statistics on. `seed u32[B]` determines the dropout masks of the examples. `time
  f32[B]` is the step of a diffusion, for networks that take one. With deep supervision,
  training returns a tuple of logits, the finest first; element i belongs to level i of
  the geometry;
- `geometry(axes) -> Geometry`, its size arithmetic for images of so many axes. It
  raises UserError if the fields do not fit that number;
- `fault() -> str | None`, one line about a wrong field, beginning with its name;
- the fields `outputs` (K), `dtype` (of the computation) and `axis_name` (of the devices
  that share batch statistics). The builder sets these three, the user all others.
"""

from unet_jax.models.unet import UNet

__all__ = ["UNet"]
