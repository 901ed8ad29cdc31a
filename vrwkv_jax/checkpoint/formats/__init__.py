"""The forms in which a checkpoint may lie on disk, one file for each; `registry` names them."""
