"""Kernels that depend on jax and numpy alone."""
