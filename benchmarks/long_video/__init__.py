"""How well minutes of video are edited, where the true edit is known, and at what cost per frame.

    python -m benchmarks.long_video
    python -m benchmarks.long_video --frames 1000 --films 1 --method exact adaflow --output runs/long.json

Films of the rendered world have cuts, a camera that moves, and a thing that leaves and comes back. Each is edited three
times (colour, shape, background) by every method, with the built-in model and the default controls:

    image        the image U-Net, each frame for itself
    uniform      AdaFlow's keyframes at equal distances, as in TokenFlow
    adaflow      AdaFlow: keyframes where the picture changes
    blended      the same, two keyframes blended within 8 frames of a clip's border
    exact, look_ahead, forward, reset
                 the mixers, tuned on parts of the film, in each of the modes of streaming
    causal       the same, tuned to look at nothing behind, and streamed so

and ``cuts`` says how AdaFlow's clips lie to the cuts of a montage, whose shots have nothing to do with each other.

Joins are the borders of chunks. A row is written as soon as it is known; an interrupted benchmark goes on.
"""
