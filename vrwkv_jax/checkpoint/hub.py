"""From what a user names as the model to a directory on disk."""

import re
from pathlib import Path

from vrwkv_jax.errors import UserError

PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
SMALL_FILES = ["model_index.json", "*/config.json", "scheduler/*.json", "tokenizer/*"]


def resolve(model: str | Path) -> Path:
    """The directory of a checkpoint: ``model`` itself, or the local copy of a Hugging Face repository ``owner/name``.

    Raises:
        UserError: there is no such directory, or it lacks parts of a checkpoint, or the hub did not deliver.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        return _complete(path)
    if path.exists():
        raise UserError(
            f"{path} is a file; expected a checkpoint directory in the diffusers layout ({', '.join(PARTS)}). "
            "A single-file checkpoint becomes one with diffusers' StableDiffusionPipeline.from_single_file(...).save_pretrained(...)"
        )
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(model)):
        return _complete(_download(str(model)))
    raise UserError(f"there is no checkpoint directory {path}; expected a directory or a Hugging Face id owner/name")


def _complete(path: Path) -> Path:
    missing = [part for part in PARTS if not (path / part).is_dir()]
    if missing:
        raise UserError(
            f"{path} is no Stable Diffusion checkpoint: it has no {', '.join(missing)}; "
            f"expected the diffusers layout with {', '.join(PARTS)}"
        )
    return path


def _download(repository: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    def fetch(variant: str) -> Path:
        weights = [f"{part}/*model{variant}.safetensors" for part in ("unet", "vae", "text_encoder")]
        shards = ["*/*model*-of-*.safetensors", "*/*.safetensors.index*.json"]
        return Path(snapshot_download(repository, allow_patterns=[*SMALL_FILES, *weights, *shards]))

    try:
        path = fetch("")
        return path if list(path.glob("unet/*.safetensors")) else fetch(".fp16")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise UserError(
            f"there is no directory {repository}, and the Hugging Face hub did not deliver it as a repository ({reason})"
        ) from error
