"""The functions that `--mode` names: loops and files, no mathematics."""

from unet_jax.run.compare import compare
from unet_jax.run.crossval import crossval
from unet_jax.run.evaluate import evaluate
from unet_jax.run.export import export
from unet_jax.run.inspect import inspect
from unet_jax.run.predict import predict
from unet_jax.run.sample import sample
from unet_jax.run.sweep import sweep
from unet_jax.run.train import train

__all__ = [
    "compare",
    "crossval",
    "evaluate",
    "export",
    "inspect",
    "predict",
    "sample",
    "sweep",
    "train",
]
