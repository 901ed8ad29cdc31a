"""The door of controls: what one says of itself. ``registry`` names those there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np

from vrwkv_jax.models.tokenizer import Tokenizer
from vrwkv_jax.system.checks import Rule, check_fields
from vrwkv_jax.typing import Array


@dataclass(frozen=True)
class Settings:
    """A base of the settings of each control, which are the bases of ``ControlConfig``."""

    def __post_init__(self) -> None:
        check_fields(self, **self.rules())

    def rules(self) -> dict[str, Rule]:
        """Name of a setting -> its rule; a control adds its own to those of ``super()``."""
        return {}


class Prompts(NamedTuple):
    """What the clip shows, and what its edit shall show."""

    tokenizer: Tokenizer
    source: str
    edited: str


class Needs(IntEnum):
    """Which rows a step must ask the model for, for a control to act in it; each includes those before it."""

    NOTHING = 0
    """It does not act."""
    EDIT = 1
    """It acts on the edit by itself."""
    SOURCE = 2
    """It takes something over from the source."""


class EditControl(Protocol):
    """Something that an edit takes over from its source, which is sampled beside it."""

    @property
    def hook(self) -> str:
        """Where in the layers it acts, of ``models.control.HOOKS``, which says what it is to give there."""

    @property
    def neutral(self) -> Mapping[str, Any]:
        """The settings that switch it on, and their values while they don't."""

    @property
    def layers(self) -> str | None:
        """The setting that says in which layers; None: in all that have the hook."""

    def steps(self, config: Any, prompts: Prompts, steps: int) -> list[Any]:
        """What it gives in each step of sampling, arrays of the same shapes; ``config`` is a ``ControlConfig``.

        Raises:
            UserError: ``config`` asks for what these prompts don't have.
        """

    def needs(self, given: Any) -> Needs:
        """What it needs in a step for which ``steps`` gave ``given``."""

    def off(self, tokens: int) -> Any:
        """What it gives where it changes nothing, for prompts of so many tokens."""


def active(share: float | np.ndarray, step: int, steps: int) -> Array:
    """Whether ``step`` is among the first ``share`` of ``steps``."""
    return jnp.asarray(step < np.round(np.asarray(share) * steps))


@dataclass(frozen=True)
class SourceInPlace:
    """A control that puts the source's tensors in the place of the edit's, in a ``share`` of the steps (a setting)."""

    hook: str
    share: str
    layers: str | None = None

    @property
    def neutral(self) -> Mapping[str, Any]:
        return {self.share: 0.0}

    def steps(self, config: Any, prompts: Prompts, steps: int) -> list[Array]:
        return [active(getattr(config, self.share), step, steps) for step in range(steps)]

    def needs(self, given: Array) -> Needs:
        return Needs.SOURCE if given else Needs.NOTHING

    def off(self, tokens: int) -> Array:
        return jnp.asarray(False)
