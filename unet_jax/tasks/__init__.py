"""Tasks: the meaning of a network's output.

Each public function is `(data: TaskData, *, <options>) -> Task`. A spec names it:
`{'name': 'semantic'}`. No code outside this folder depends on which task it is.
"""

from unet_jax.tasks.flow import flow
from unet_jax.tasks.regression import regression
from unet_jax.tasks.semantic import multilabel, semantic
from unet_jax.tasks.task import Task as Task
from unet_jax.tasks.task import TaskData as TaskData

__all__ = ["flow", "multilabel", "regression", "semantic"]
