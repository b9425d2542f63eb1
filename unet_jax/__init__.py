"""The U-Net in JAX and Flax."""

from typing import Any

__all__ = ["Predictor"]


def __getattr__(name: str) -> Any:
    """`unet_jax.Predictor`, imported when it is asked for: the rest needs no run."""
    if name == "Predictor":
        from unet_jax.run.predictor import Predictor

        return Predictor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
