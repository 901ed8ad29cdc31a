"""Video mixers: what carries information between the frames of a clip. One file per mixer; `registry` names them."""
