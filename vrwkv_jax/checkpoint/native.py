"""Our own format on disk: flat parameters as an Orbax checkpoint, in a directory ``params``."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from vrwkv_jax.checkpoint.check import check
from vrwkv_jax.errors import UserError
from vrwkv_jax.models.params import Params

DIRECTORY = "params"


def is_native(directory: Path) -> bool:
    """Whether ``directory`` holds parameters in our format."""
    return (directory / DIRECTORY).is_dir()


def save(directory: Path, params: Params) -> None:
    """Writes ``directory/params``; Orbax renames it into place when it is complete."""
    import orbax.checkpoint as ocp  # half a second to import, and models need no disk

    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(directory.absolute() / DIRECTORY, params)


def restore(directory: Path, abstract: Params, dtype: Any = None) -> Params:
    """The parameters saved in ``directory/params``, checked against ``abstract`` (path -> anything with a shape).

    Raises:
        UserError: the checkpoint is damaged, or its tensors are not those of ``abstract`` (all are named).
    """
    import orbax.checkpoint as ocp

    path = directory.absolute() / DIRECTORY
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(path).item_metadata.tree
            check(
                {p: leaf.shape for p, leaf in abstract.items()}, {p: leaf.shape for p, leaf in saved.items()}, str(path)
            )
            device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
            like = {
                p: jax.ShapeDtypeStruct(leaf.shape, jnp.dtype(dtype or saved[p].dtype), sharding=device)
                for p, leaf in abstract.items()
            }
            return checkpointer.restore(path, like)
        except UserError:
            raise
        except Exception as error:  # tensorstore and Orbax have no common error of their own for a damaged file
            raise UserError(
                f"{path} can't be read as an Orbax checkpoint ({_first_line(error)}): convert it again"
            ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def saved_shapes(directory: Path) -> Params:
    """Path -> shape and dtype of everything saved in ``directory/params``; UserError when it is damaged."""
    import orbax.checkpoint as ocp

    path = directory.absolute() / DIRECTORY
    with ocp.StandardCheckpointer() as checkpointer:
        try:
            saved = checkpointer.metadata(path).item_metadata.tree
            return {p: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for p, leaf in saved.items()}
        except Exception as error:
            raise UserError(f"{path} can't be read as an Orbax checkpoint ({_first_line(error)})") from error
