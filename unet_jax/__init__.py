"""The U-Net in JAX and Flax."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_jax.api import evaluate, inspect, load_config, train
    from unet_jax.build.sweep_file import grid
    from unet_jax.run.predictor import Predictor

__all__ = ["Predictor", "evaluate", "grid", "inspect", "load_config", "train"]


def __getattr__(name: str) -> Any:
    """Imports what `__all__` names when it is used: most modules need none of it."""
    if name == "Predictor":
        from unet_jax.run.predictor import Predictor

        return Predictor
    if name == "grid":
        from unet_jax.build.sweep_file import grid

        return grid
    if name in __all__:
        from unet_jax import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
