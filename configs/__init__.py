"""The configs: one file for each run, whose `get_config` returns it.

The folder is part of the package: `unet_jax/configs` is a link to it. A config of your
own may lie anywhere, and begins with `from unet_jax.configs import base`.
"""
