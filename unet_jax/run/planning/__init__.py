"""Training plans: config fields chosen by rules, and the measured cost of a step."""

from unet_jax.run.planning.planner import TrainingPlan, format_plan, plan_training
from unet_jax.run.planning.rules import PlannedField

__all__ = ["PlannedField", "TrainingPlan", "format_plan", "plan_training"]
