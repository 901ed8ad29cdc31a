"""Editing a clip with a text-to-image model: encode, invert, sample under a new prompt, decode."""
