"""What parameters are, told from their paths: every rule on paths of the U-Net stands here, or with its mixer.

| rule | read by | decides |
|---|---|---|
| `ADDED` | `editing/components.py` | what no image checkpoint has: drawn anew, and in float32 |
| `trained` | `tuning/optimizer.py` | what is tuned: by `TuningConfig.train`, of `TRAINED`, and the mixer's name |
| `GAINS` | `tuning/optimizer.py` | what learns at `mixer_lr_scale` times the rate, without weight decay |
| `ENDS` | `tuning/state.py` | what `mixer_strength` is a factor of |
| `SCHEDULED` | `tuning/optimizer.py` | what goes from 0 to 1 while the model is tuned, whatever its gradient |
| `FLOAT32` | `models/params.py` | what stays in float32 in a model that computes in another type |
| `CUT` | `parallel/placement.py` | along which axis devices that share the parameters cut them |
"""

import re
from collections.abc import Iterable

from vrwkv_jax.models.mixers.base import TO_Q
from vrwkv_jax.models.mixers.registry import MIXERS


def _of_mixers(rules: Iterable[str]) -> re.Pattern[str]:
    """What any of ``rules`` describes, in a mixer of a U-Net or in one by itself."""
    return re.compile(rf"(^|/mixer/)({'|'.join(rules)})$")


ADDED = re.compile(r"/(mixer|gate|bypass)/")
SCHEDULED = re.compile(r"(^|/)bypass/progress$")
TRAINED = ("mixers", "all")
# AdamW moves a parameter by about its learning rate per step, 0.015 in 500 steps at 3e-5: enough for a matrix, nothing
# for a decay or an interpolation weight of order 1.
GAINS = _of_mixers(mixer.gains for mixer in MIXERS.values())
ENDS = _of_mixers(mixer.ends for mixer in MIXERS.values())
FLOAT32 = re.compile("|".join((_of_mixers(mixer.float32 for mixer in MIXERS.values()).pattern, SCHEDULED.pattern)))
# The first that matches says along which axis; see `cut_axis` for the rest.
CUT: tuple[tuple[re.Pattern[str], int], ...] = (
    *((_of_mixers([rule]), axis) for mixer in MIXERS.values() for rule, axis in mixer.cut.items()),
    (re.compile(r"/to_(q|k|v)/kernel$"), -1),  # what is computed, head by head
    (re.compile(r"/to_out/kernel$"), 0),  # and what takes it in
    (re.compile(r"/conv\w*/kernel$"), -1),  # output channels
)


def trained(train: str, mixer: str) -> re.Pattern[str]:
    """What is new, and what else is tuned with the mixer of that name; or all."""
    beside = MIXERS[mixer].trained if mixer in MIXERS else TO_Q
    return re.compile("" if train == "all" else rf"{ADDED.pattern}|{beside}")
