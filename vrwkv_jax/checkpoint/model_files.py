"""Writes what stands beside the weights in a checkpoint directory: configurations, tokenizer, noise schedule."""

from dataclasses import asdict
from pathlib import Path

from vrwkv_jax.checkpoint.description import Description
from vrwkv_jax.checkpoint.save import MODEL_INDEX, component_config, write_json
from vrwkv_jax.checkpoint.small_files import check_link, read_bytes, read_json
from vrwkv_jax.checkpoint.source import Source

TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")
REQUIRED_FILES = (
    "unet/config.json",
    "vae/config.json",
    "text_encoder/config.json",
    "scheduler/scheduler_config.json",
)
INDEX = "model_index.json"
OPTIONAL_FILES = (INDEX, "tokenizer/added_tokens.json", *(f"tokenizer/{name}" for name in TOKENIZER_FILES))


def write_model_files(source: Source, description: Description, destination: Path) -> None:
    """Writes them: as they are in ``source`` where it has them, else what ``description`` says of it."""
    if source.path.is_dir():
        _copy(source.path, destination)
    made = {
        "unet/config.json": component_config("unet", asdict(description.unet)),
        "vae/config.json": component_config("vae", asdict(description.vae)),
        "text_encoder/config.json": component_config("text_encoder", asdict(description.text_encoder)),
        "scheduler/scheduler_config.json": description.scheduler,
        INDEX: MODEL_INDEX,
    }
    for name in [*source.changed(), *(name for name in made if not (destination / name).exists())]:
        write_json(destination / name, made[name])
    if not source.path.is_dir() or source.weights.embedding:
        description.tokenizer.save(destination / "tokenizer")
    index = read_json(destination / INDEX)
    written = {name: [None, None] if _is_absent(destination / name, of) else of for name, of in index.items()}
    if written != index:  # such as a safety checker, which is not read, and without which diffusers would not load
        write_json(destination / INDEX, written | {"requires_safety_checker": False})


def _is_absent(directory: Path, said: object) -> bool:
    """Whether ``said`` of model_index.json is of a part that is not in ``directory``."""
    return isinstance(said, list) and said != [None, None] and not directory.is_dir()


def _copy(source: Path, destination: Path) -> None:
    """Copies what is there: known names only, and no link that leads out of ``source``."""
    for name in (*REQUIRED_FILES, *OPTIONAL_FILES):
        file = source / name
        if name in OPTIONAL_FILES and not file.exists():
            continue
        check_link(file, source)
        content = read_bytes(file)
        (destination / name).parent.mkdir(exist_ok=True)
        (destination / name).write_bytes(content)
