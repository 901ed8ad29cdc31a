"""What each mixer costs as clips get longer and larger.

    python -m benchmarks.scaling                                   # layers: on this machine, minutes to an hour
    python -m benchmarks.scaling --parts layers --mixer vrwkv extended --frames 8 16 32 --pixels 256
    python -m benchmarks.scaling --parts memory --frames 8 16 32   # compiled for a GPU that need not be there

    layers   one layer of each mixer, alone, at every level of Stable Diffusion 1.5's U-Net: milliseconds of a forward
             pass, and operations by count. ``extended`` and ``sparse_causal`` are self-attention, the others what the
             mixer adds. Where a layer would take longer than --seconds, it is not run; of extended, which is linear in
             its queries, two small shares of the queries are timed then, and the line through them is taken.
    memory   steps of sampling and of tuning (with remat) of the whole U-Net, in bfloat16, compiled for --gpu: the
             bytes that XLA asks for. Needs jax's CUDA plugin of the same version; a minute or more per program.
             Layers beside it are timed on the CPU.

Exponents are those of power laws: fitted over the frames, and between the numbers of pixels. Every figure is written
as soon as it is known, and is not measured again on the same device with the same versions. benchmarks/results/ has
them all, and scaling.png draws the time and memory of every method over the frames. On a GPU, ``python -m
benchmarks.gpu --parts scaling`` measures whole steps.
"""
