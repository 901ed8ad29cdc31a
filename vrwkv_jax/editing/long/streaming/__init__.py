"""A clip of any length in chunks, between which the mixers carry their states."""
