"""Eight fake devices for every test, and no silent broadcasting."""

import os

# Most of the tests' time is compilation, and most of that is optimisation.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")

import jax  # noqa: E402

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
