"""What a studio is started with, and what its pages share."""

from dataclasses import dataclass, field

from vrwkv_jax.studio.gallery import stored_runs
from vrwkv_jax.studio.jobs import Jobs
from vrwkv_jax.studio.places import Places
from vrwkv_jax.studio.uploads import Limits


@dataclass(frozen=True)
class Studio:
    places: Places
    jobs: Jobs
    limits: Limits = field(default_factory=Limits)
    models: tuple[str, ...] = ()
    """Paths and Hugging Face ids that the page offers."""
    any_path: bool = True
    """Whether the page may name other paths: not where others than its owner see it."""

    def listed_models(self) -> list[str]:
        """``models``, and those of the runs."""
        of_runs = (run.config.model for run in stored_runs(self.places))
        return list(dict.fromkeys([*self.models, *(model for model in of_runs if model is not None)]))
