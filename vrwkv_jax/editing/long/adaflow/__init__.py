"""AdaFlow (https://arxiv.org/abs/2502.05433): edits long clips with the image U-Net, which is not tuned.

Keyframes attend to each other, and every other frame takes what its keyframe has seen, from the places that look like
its own. `keyframes` chooses the clips, `draw` a keyframe of each for every step, `steps` has the two programs of a step
(`keyframe_pass`, `chunk_step`), and `sampling` the loop over steps and chunks.
"""
