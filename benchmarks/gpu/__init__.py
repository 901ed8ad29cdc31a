"""What one NVIDIA card does with Stable Diffusion 1.5 at 512 x 512 in bfloat16: one command, one table.

    python -m benchmarks.gpu                             # all parts, on the card that is there
    python -m benchmarks.gpu --parts programs peers      # some of them
    python -m benchmarks.gpu --tiny                      # the same with small sizes, on any device: does it run?

    kernels      Bi-WKV along the places of a frame and along time, against a copy's rate and against scan,
                 associative_scan and attention
    programs     the product's programs: milliseconds, rate, memory beside its estimate
    peers        PyTorch with SDPA, channels_last, bfloat16: diffusers' image U-Net frame by frame, and Tune-A-Video's
                 layers on it, sampling and tuning (needs torch and diffusers)
    job          python -m train.tune with a full-size checkpoint of random weights, with an empty cache of compiled
                 programs and with a full one
    scaling      steps of sampling and tuning with every other mixer, over the frames

Every case is a process of its own. Several compile beside each other, and then they take turns on the card, so that
nothing runs beside what is timed. Those of 16 frames come first. A row is written as soon as it is known, and a case
whose row was made by the same code and versions on the same device is not run again: a benchmark that was interrupted,
or that ran out of --seconds, goes on.
"""
