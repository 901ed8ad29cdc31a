"""From what a user names as the model to a checkpoint on disk."""

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from vrwkv_jax.checkpoint import kinds
from vrwkv_jax.checkpoint.formats.base import WEIGHTS
from vrwkv_jax.checkpoint.formats.registry import expected, missing
from vrwkv_jax.media.files import check_place
from vrwkv_jax.system.errors import UserError, not_utf8, setting

FORMS = ("safetensors", "bin")  # of weights, in the order in which they are looked for
ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")  # of a Hugging Face repository
NETWORK = ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "HF_ENDPOINT")  # environment variables
SMALL_FILES = [
    "model_index.json",
    "config.json",
    "adapter_config.json",
    "*/config.json",
    "scheduler/*.json",
    "tokenizer/*.json",
    "tokenizer/*.txt",
]


def resolve(model: str | Path, revision: str | None = None, variant: str | None = None) -> Path:
    """The path of a checkpoint: ``model`` itself, or the local copy of a Hugging Face repository ``owner/name``.

    ``revision`` is a branch, tag or commit of the repository; ``variant`` the weights that are fetched of those it has.

    Raises:
        UserError: nothing is there, or it lacks parts of a checkpoint, or the hub did not deliver; or ``revision`` is
            given for what is no repository.
    """
    if not str(model).strip():
        raise UserError("the name of the checkpoint is empty; expected a directory, a file, or a Hugging Face id")
    # os.path has an answer where Path raises: for an unknown ~user, for a name that is too long
    path = Path(os.path.expanduser(model))
    if not_utf8(os.path.abspath(path)):
        raise UserError(f"the name of the checkpoint {path} is not UTF-8: rename it")
    if os.path.exists(path):
        if revision is not None:
            raise UserError(
                f"{setting('revision')} is {revision}, but {path} is on this machine: revisions are those of a Hugging "
                "Face repository"
            )
        return _complete(path)
    if ID.fullmatch(str(model)):
        path = _download(str(model), revision, variant)
        if lacking := missing(path):
            raise UserError(
                f"the repository {model} has no {', '.join(lacking)} in the diffusers layout; where it has a single "
                "file instead (.safetensors or .ckpt), download that and give its path"
            )
        return path
    if address := re.match(r"https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w-][\w.-]*/[\w-][\w.-]*)", str(model)):
        raise UserError(f"{model} is an address: give the Hugging Face id, {address[1]}")
    raise UserError(f"there is no checkpoint {path}; expected a directory, a file, or a Hugging Face id owner/name")


def _complete(path: Path) -> Path:
    """``path``, where each part of it has a form that is read."""
    if path.is_dir():
        kinds.check_directory(path)
    elif path.is_file():
        kinds.check_file(path)
        if path.stat().st_size == 0:
            raise UserError(f"{path} is empty: download or copy it again")
    lacking = missing(path)
    if not lacking:
        return path
    if not path.is_dir():
        raise UserError(f"{path} is a file; expected {expected()}")
    if (path / "snapshots").is_dir():
        raise UserError(
            f"{path} is the hub's cache of a repository: give the repository's id owner/name, or a directory in "
            f"{path / 'snapshots'}"
        )
    raise UserError(f"{path} is no Stable Diffusion checkpoint: it has no {', '.join(lacking)}; expected {expected()}")


def model_directory(model: str, patterns: Sequence[Sequence[str]], expected: str) -> Path:
    """The directory of one model: ``model`` itself, or the local copy of a Hugging Face repository ``owner/name``.

    Of a repository the files are fetched that fit the first of ``patterns``; those of the others only while there are
    no weights. ``expected`` is what errors call the model.

    Raises:
        UserError: nothing is there, or the hub did not deliver.
    """
    path = Path(os.path.expanduser(model))
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise UserError(f"{path} is a file; expected the directory of {expected}, or its Hugging Face id owner/name")
    if not ID.fullmatch(model):
        raise UserError(f"there is no directory {path}; expected {expected}, or its Hugging Face id owner/name")

    def fetch() -> Path:
        from huggingface_hub import snapshot_download

        for allowed in patterns:
            found = Path(snapshot_download(model, allow_patterns=list(allowed)))
            if _has_weights(found):
                break
        return found

    return _delivered(model, None, fetch)


def _download(repository: str, revision: str | None, variant: str | None) -> Path:
    from huggingface_hub import snapshot_download

    def fetch(parts: Sequence[str], form: str, variant: str) -> Path:
        weights = [f"{part}/*model{end}" for part in parts for end in _weight_names(form, variant)]
        return Path(snapshot_download(repository, revision=revision, allow_patterns=[*SMALL_FILES, *weights]))

    def fetch_all() -> Path:
        path = fetch((), FORMS[0], "")
        kinds.check_directory(path)  # before gigabytes of another model are fetched
        named = [] if variant is None else [f".{variant}"]
        lacking: Sequence[str] = WEIGHTS  # what the local cache has of them may be of another variant
        for form, wanted in itertools.product(FORMS, [*named, "", ".fp16"]):
            if lacking:
                path = fetch(lacking, form, wanted)
                lacking = [part for part in WEIGHTS if not _has_weights(path / part)]
        return path

    return _delivered(repository, revision, fetch_all)


def _delivered(repository: str, revision: str | None, fetch: Callable[[], Path]) -> Path:
    """What ``fetch`` returns; what goes wrong with the hub in it becomes a ``UserError``."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        return fetch()
    except UserError:
        raise
    except GatedRepoError as error:
        reason = "its owner lets only those in who accept the licence on its page and log in with `hf auth login`"
        cause: Exception = error
    except RevisionNotFoundError as error:
        reason, cause = f"it has no revision {revision}: name a branch, a tag or a commit of it", error
    except RepositoryNotFoundError as error:
        reason, cause = "it is not there, or private: log in with `hf auth login`", error
    except LocalEntryNotFoundError as error:
        reason, cause = "there is no connection, or HF_HUB_OFFLINE is set, and no copy in the local cache", error
    except (HFValidationError, HfHubHTTPError, OSError) as error:
        reason, cause = (str(error).strip() or type(error).__name__).splitlines()[0], error
    except Exception as error:  # of httpx: a proxy or an address that it can't use has no error of the hub's
        set_ = [name for name in NETWORK if os.environ.get(name) or os.environ.get(name.lower())]
        settings = (
            f"; it was to be reached with the environment's {', '.join(set_)}: correct or unset it" if set_ else ""
        )
        reason, cause = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".") + settings, error
    reason = _unwritable() or reason
    raise UserError(
        f"there is no directory {repository}, and the Hugging Face hub did not deliver it as a repository: {reason}"
    ) from cause


def _unwritable() -> str | None:
    """What keeps copies from being kept, if something does."""
    from huggingface_hub.constants import HF_HUB_CACHE

    try:
        check_place(HF_HUB_CACHE, "the place of its copies")
    except UserError as error:
        return f"{error}, with the environment variable HF_HOME"
    return None


def _has_weights(directory: Path) -> bool:
    return any(file for form in FORMS for file in directory.glob(f"*.{form}"))


def _weight_names(form: str, variant: str) -> tuple[str, ...]:
    """How names of weights end: one file; shards and their indices, which have two styles where there is a variant."""
    numbers = "-?????-of-?????"
    return (
        f"{variant}.{form}",
        f"{variant}{numbers}.{form}",
        f"{numbers}{variant}.{form}",
        f".{form}.index{variant}.json",
        f".{form}{variant}.index.json",
    )
