"""The forms in which a checkpoint may lie on disk, a file each; ``registry.py`` has the list of them."""
