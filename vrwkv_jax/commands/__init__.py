"""The commands: what ``vrwkv`` and ``python -m`` call."""
