"""From a config to objects; the lower floors know no config."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unet_jax.build.predicting import Predicting, predicting
    from unet_jax.build.surveying import survey
    from unet_jax.build.training import Parts, build

__all__ = ["Parts", "Predicting", "build", "predicting", "survey"]


def __getattr__(name: str) -> Any:
    """Imports the builders on first use: configs read `fields` alone, without JAX."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from unet_jax.build.predicting import Predicting, predicting
    from unet_jax.build.surveying import survey
    from unet_jax.build.training import Parts, build

    # all at once: the module `predicting` must not hide the function
    builders = (Parts, Predicting, build, predicting, survey)
    globals().update(zip(__all__, builders, strict=True))
    return globals()[name]
