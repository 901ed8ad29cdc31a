"""Where the studio keeps its files, among the runs."""

import os
from dataclasses import dataclass
from pathlib import Path

from vrwkv_jax.media.files import check_place
from vrwkv_jax.system.errors import UserError


@dataclass(frozen=True)
class Places:
    """The directory of the runs, and in it what is the studio's."""

    runs: Path

    @property
    def uploads(self) -> Path:
        """Clips and masks that came through the page."""
        return self.runs / "uploads"

    @property
    def own(self) -> Path:
        return self.runs / ".studio"

    @property
    def job(self) -> Path:
        """What runs, or ran last: see ``jobs``."""
        return self.own / "job.json"

    @property
    def log(self) -> Path:
        """What that has printed."""
        return self.own / "job.log"

    @property
    def lock(self) -> Path:
        """Locked by the job, as long as it runs."""
        return self.own / "job.lock"

    @property
    def commands(self) -> Path:
        """All that were started, a line each."""
        return self.own / "commands.jsonl"

    @property
    def cache(self) -> Path:
        """What the page shows for a while: previews, and files to download."""
        return self.own / "cache"

    def make(self) -> None:
        """Makes them.

        Raises:
            UserError: they can't be made.
        """
        check_place(self.runs, "--runs")
        try:
            for place in (self.uploads, self.own, self.cache):
                place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--runs {self.runs} can't be made ({error.strerror}): name another directory") from error
        if os.path.islink(self.uploads):
            raise UserError(f"{self.uploads} is a link, which uploads must not follow: remove it")
