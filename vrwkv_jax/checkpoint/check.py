"""Whether the tensors of a file are those of the model."""

from collections.abc import Mapping

from vrwkv_jax.system.errors import UserError

Shape = tuple[int, ...]
UNLIKE_CONFIG = ("do not fit the config.json beside them", "is the config that of this checkpoint?")


def check(
    wanted: Mapping[str, Shape], found: Mapping[str, Shape], where: str, unlike: tuple[str, str] = UNLIKE_CONFIG
) -> None:
    """Raises one UserError that lists every tensor that is missing, unexpected or of the wrong shape.

    ``unlike`` is what the error says of them and what it advises.
    """
    missing = [name for name in wanted if name not in found]
    unexpected = [name for name in found if name not in wanted]
    misshaped = [
        f"{name}: {list(found[name])}, expected {list(shape)}"
        for name, shape in wanted.items()
        if name in found and tuple(found[name]) != tuple(shape)
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", misshaped))
    counts = ", ".join(f"{len(names)} {kind}" for kind, names in kinds if names)
    if not counts:
        return
    lists = "".join(f"\n  {kind}:" + "".join(f"\n    {name}" for name in names) for kind, names in kinds if names)
    raise UserError(f"the weights in {where} {unlike[0]} ({counts} of {len(wanted)} tensors); {unlike[1]}{lists}")
