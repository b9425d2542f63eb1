"""Plans a training: chooses config fields by rules and measures the compiled step."""

from unet_jax.run.planning.planner import TrainingPlan, format_plan, plan_training
from unet_jax.run.planning.rules import PlannedField

__all__ = ["PlannedField", "TrainingPlan", "format_plan", "plan_training"]
