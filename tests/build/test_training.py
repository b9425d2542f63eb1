"""The parts that `build` makes from a config."""

import jax
import jax.numpy as jnp

from unet_jax.build.training import build


def test_overlapping_classes_have_no_channel_for_the_background(tiny):
    tiny.task.name = "multilabel"
    parts = build(tiny)
    assert parts.evaluation.prediction.task.classes == ("cell",)
    assert parts.model.outputs == 1
    assert parts.train[0]["label"].shape == (20, 24, 1)


def test_precision_is_the_type_of_the_computation_not_of_parameters(tiny):
    tiny.precision = "bfloat16"
    parts = build(tiny)
    assert parts.model.dtype == jnp.bfloat16
    params = jax.eval_shape(parts.init, jax.random.key(0)).params
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}
