"""Noise schedules, deterministic sampling and inversion (DDIM), and guidance: pure functions of arrays."""
