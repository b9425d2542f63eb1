"""The config that the others start from: every field at its default.

`unet_jax/build/fields.py` lists and explains the fields. The other configs call
`get_config` and change what differs.

Every field can be set on the command line: `--config.steps=20`,
`--config.model.widths=8,16,32`, `'--config.loss[1].smooth=0.1'`,
`--config.augment="()"`. A whole spec, `--config.parallel="{'name':'mesh','space':2}"`,
replaces the old one: keywords that it leaves out have the defaults of the function.
"""

from ml_collections import ConfigDict

from unet_jax.build import fields


def get_config() -> ConfigDict:
    """Returns the paper's network with SAME padding, Adam, cross-entropy and Dice."""
    return fields.make_default_config()
