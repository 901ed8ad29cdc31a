"""What every implementation of the selective scan is held against: its recurrence and its gradients in float64 numpy.

The implementation "reference", whose gradients JAX derives, agrees with these, and so does transformers' Mamba.
"""

import numpy as np

from pallas_kernels.selective_scan.cases import ARGUMENTS


def oracle(values, *, reverse=False) -> dict[str, np.ndarray]:
    """``y`` and the gradients of ``sum(g * y)``, in float64, token by token from the definition."""
    x, dt, A, B, C, D, g = (np.asarray(values[name], np.float64) for name in (*ARGUMENTS, "g"))
    order = sorted(range(x.shape[1]), reverse=reverse)
    h = dh = np.zeros((x.shape[0], *A.shape))
    before, y = {}, np.empty_like(x)
    for t in order:
        before[t] = h
        h = np.exp(dt[:, t, :, None] * A) * h + (dt[:, t] * x[:, t])[..., None] * B[:, t, None]
        y[:, t] = (h * C[:, t, None]).sum(axis=2) + D * x[:, t]
    d = {name: np.zeros(values[name].shape) for name in ARGUMENTS}
    for t in reversed(order):
        decay = np.exp(dt[:, t, :, None] * A)
        h = decay * before[t] + (dt[:, t] * x[:, t])[..., None] * B[:, t, None]
        d["C"][:, t] = (h * g[:, t, :, None]).sum(axis=1)
        dh = dh + C[:, t, None] * g[:, t, :, None]
        written = (dh * B[:, t, None]).sum(axis=2)
        exponent = dh * decay * before[t]  # the gradient with respect to dt A
        d["x"][:, t] = dt[:, t] * written + D * g[:, t]
        d["dt"][:, t] = x[:, t] * written + (exponent * A).sum(axis=2)
        d["A"] += (exponent * dt[:, t, :, None]).sum(axis=0)
        d["B"][:, t] = (dh * (dt[:, t] * x[:, t])[..., None]).sum(axis=1)
        dh = dh * decay
    d["D"] = (g * x).sum(axis=(0, 1))
    return {"y": y, **d}
