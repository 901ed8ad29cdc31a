"""Checkpoints of other libraries into this one's format: ``python -m convert SRC DST``."""
