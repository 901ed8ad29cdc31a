"""What every implementation of Bi-WKV is held against: the dense formula and its gradients in float64 numpy."""

import numpy as np

GRADIENTS = ("k", "v", "decay", "bonus", "receptance")


def dense(k, v, decay, bonus, receptance, g) -> dict[str, np.ndarray]:
    """``y`` and the gradients of ``sum(g * y)``, in float64, row by row from the definition.

    With p the softmax weights of row t and d = g_t p (v - wkv_t), the gradient with respect to every exponent is d:
    dk_i sums it over the rows, dbonus over the diagonal, ddecay over everything, times 1 - |t - i|.
    """
    k, v, decay, bonus, receptance, g = (np.asarray(x, np.float64) for x in (k, v, decay, bonus, receptance, g))
    T = k.shape[1]
    gate = 1 / (1 + np.exp(-receptance))
    wkv, dk, dv = np.empty_like(v), np.zeros_like(k), np.zeros_like(v)
    d_decay, d_bonus = np.zeros_like(decay), np.zeros_like(bonus)
    for t in range(T):
        steps = (1.0 - np.abs(np.arange(T) - t))[:, None]  # 1 - |t - i|
        exponent = np.where(steps == 1, bonus, steps * decay) + k
        p = np.exp(exponent - exponent.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        wkv[:, t] = (p * v).sum(axis=1)
        g_t = (g[:, t] * gate[:, t])[:, None]
        d = g_t * p * (v - wkv[:, t, None])
        dv += g_t * p
        dk += d
        d_bonus += d[:, t].sum(axis=0)
        d_decay += (d * np.where(steps == 1, 0.0, steps)).sum(axis=(0, 1))
    return {
        "y": gate * wkv,
        "k": dk,
        "v": dv,
        "decay": d_decay,
        "bonus": d_bonus,
        "receptance": g * wkv * gate * (1 - gate),
    }
