"""Runs a model on clips whose frames are spread over devices: every device runs it on its own run of frames."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import jax
from jax.sharding import Mesh, PartitionSpec

from vrwkv_jax.models.params import Params
from vrwkv_jax.parallel.mesh import DATA, FRAME, FSDP
from vrwkv_jax.parallel.placement import cut_axis, partition_specs

Model = TypeVar("Model", bound=Callable[..., Any])


def spread(function: Model, mesh: Mesh | None, params: Params, *, rows: int | None) -> Model:
    """``function(params, clips, *per_clip)``, whose arguments and result are spread over ``mesh``.

    ``clips`` and what the function returns are ``[B, F, ...]``, each of ``per_clip`` is ``[B, ...]``. ``rows`` is B
    where the clips have nothing to do with each other, so that devices may share them; None where they have, and then
    every device has all of ``per_clip``, which may be anything.

    Parameters that are in pieces are put together on each device. Everything else that devices tell each other is
    what ``parallel.frames`` and Bi-WKV over devices send: the models ask for it.
    """
    if mesh is None:
        return function
    batch = _batch_axes(rows, mesh)

    def on_each_device(pieces: Params, clips: Any, *per_clip: Any) -> Any:
        return function(_put_together(pieces, params, mesh), clips, *per_clip)

    def run(params: Params, clips: Any, *per_clip: Any) -> Any:
        alike = PartitionSpec() if batch is None else PartitionSpec(batch)
        in_specs = (partition_specs(params, mesh), PartitionSpec(batch, FRAME), *[alike] * len(per_clip))
        # Without check_vma: it wants every loop inside the models to say how its first value differs by device.
        spread_out = jax.shard_map(
            on_each_device, mesh=mesh, in_specs=in_specs, out_specs=PartitionSpec(batch, FRAME), check_vma=False
        )
        return spread_out(params, clips, *per_clip)

    return cast(Model, run)


def _batch_axes(rows: int | None, mesh: Mesh) -> tuple[str, ...] | None:
    """The axes of devices that share the rows of a batch: as many as can."""
    data, fsdp = mesh.shape[DATA], mesh.shape[FSDP]
    if rows is None:
        return None
    choices = ((data * fsdp, (DATA, FSDP)), (max(data, fsdp), (DATA,) if data >= fsdp else (FSDP,)))
    return next((axes for devices, axes in choices if rows % devices == 0), None)


def _put_together(pieces: Params, whole: Params, mesh: Mesh) -> Params:
    devices = mesh.shape[FSDP]

    def gathered(path: str, piece: jax.Array) -> jax.Array:
        axis = cut_axis(path, whole[path].shape, devices)
        return piece if axis is None else jax.lax.all_gather(piece, FSDP, axis=axis, tiled=True)

    return {path: gathered(path, piece) for path, piece in pieces.items()}
