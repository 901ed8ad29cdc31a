"""Figures as JSON, written whole or not at all."""

import json
from pathlib import Path
from typing import Any

from vrwkv_jax.media.files import replacing


def write(path: Path, figures: dict[str, Any]) -> None:
    """Writes ``figures`` to ``path``, whose directory need not be there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as part:
        part.write_text(json.dumps(figures, indent=1) + "\n")
