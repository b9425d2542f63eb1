"""What suits a data set and a machine, chosen by rules and measured by compiling."""

from unet_jax.run.plan.plan import Plan, plan, written
from unet_jax.run.plan.rules import Choice

__all__ = ["Choice", "Plan", "plan", "written"]
