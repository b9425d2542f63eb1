"""The properties of the metrics of a config, such as the better direction.

No code from outside the package is imported, so the config may come from a stranger.
"""

from ml_collections import ConfigDict

from unet_jax import metrics
from unet_jax.build.checks import get_metric_names
from unet_jax.build.field_checks import to_plain
from unet_jax.errors import UserError
from unet_jax.metrics.metric import Metric
from unet_jax.specs import Spec, bind, is_external


def find_metrics(config: ConfigDict) -> dict[str, tuple[Spec, Metric]]:
    """Returns the specs and the metrics of a config by their names in scores.

    Metrics that cannot be built are left out: those with an external name, and those
    that another version of the package knows.
    """
    try:
        names = get_metric_names(config)
    except UserError:
        return {}
    specs = to_plain(config.metrics)
    built = ((*pair, _build(pair[1])) for pair in zip(names, specs, strict=True))
    return {name: (spec, metric) for name, spec, metric in built if metric is not None}


def _build(spec: Spec) -> Metric | None:
    if is_external(spec["name"]):
        return None
    try:
        return bind(metrics, spec, "config.metrics")()
    except UserError:
        return None
