"""Ways from noise to a clip and back, one file for each; `registry` names them."""
