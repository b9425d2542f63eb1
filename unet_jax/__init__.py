"""The U-Net in JAX and Flax."""
