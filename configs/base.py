"""The config that every other one begins with: every field at its default.

`unet_jax/build/fields.py` lists the fields and explains them. The other configs call
`get_config` and state their differences.

Each field can be set from the command line: `--config.steps=20`,
`--config.model.widths=8,16,32`, `'--config.loss[1].smooth=0.1'`,
`--config.augment="()"`. A whole spec, `--config.parallel="{'name':'mesh','space':2}"`,
replaces the old one: a keyword that it does not give has the default of the function's
signature.
"""

from ml_collections import ConfigDict

from unet_jax.build import fields


def get_config() -> ConfigDict:
    """The paper's network with today's habits: SAME padding, Adam, CE + Dice."""
    return fields.make_default_config()
