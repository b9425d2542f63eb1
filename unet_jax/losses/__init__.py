"""Loss functions, each of which returns one number per example.

The second argument of a loss names the kind of target that it reads. A task has targets
of one kind or of both.

- `(logits, label, weight, *, <options>) -> f32[B]` compares logits `f32[B, *S, K]` with
  a label, `i32[B, *S]` for exclusive classes (softmax) or `i32[B, *S, K]` for
  independent classes (sigmoid).
- `(output, value, weight, *, <options>) -> f32[B]` compares numbers `f32[B, *S, C]`.

The weight is `f32[B, *S]`. Any number of spatial axes is allowed. Shapes that do not
fit together raise AssertionError. Pixels of weight 0 and pixels with a negative label
are ignored, even where the output or the value is not finite. An example without any
other pixel has loss 0 and gradient 0.

A loss of the whole batch is the same number for each example. It has a keyword
`axis_name`, the axis of the devices that share the batch. Training sets it, and a
config cannot.

In the formulas, w, p and g are the weight, the predicted probability and the truth (0
or 1) of one class at one pixel. Sums run over the pixels of one example, or of all
examples of a batch.
"""

from unet_jax.losses import overlap, pixelwise, values
from unet_jax.losses.overlap import *
from unet_jax.losses.pixelwise import *
from unet_jax.losses.total import AXIS_NAME as AXIS_NAME
from unet_jax.losses.total import Loss as Loss
from unet_jax.losses.total import combine_losses as combine_losses
from unet_jax.losses.total import compute_deep_supervision as compute_deep_supervision
from unet_jax.losses.total import get_kind as get_kind
from unet_jax.losses.values import *

__all__: list[str] = []
__all__ += overlap.__all__
__all__ += pixelwise.__all__
__all__ += values.__all__
