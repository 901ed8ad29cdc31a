"""Who may import whom, and that models and kernels need no more than jax, flax, numpy, einops and safetensors."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

MODELS_ALONE = """
import sys
import einops, flax.nnx, jax, jax.numpy as jnp, numpy, safetensors.numpy

ours = {"vrwkv_jax", "pallas_kernels"}
allowed = {name.partition(".")[0] for name in sys.modules} | set(sys.stdlib_module_names) | ours

class Wall:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in allowed:
            raise ModuleNotFoundError(f"No module named {name!r}: not one that the models may need", name=name)

sys.meta_path.insert(0, Wall())
for name in "torch diffusers transformers av jaxtyping beartype pydantic tyro huggingface_hub".split():
    assert name not in allowed, name
    try:
        __import__(name)
    except ModuleNotFoundError:
        continue
    raise AssertionError(name + " was not blocked")

import vrwkv_jax.models.clip_text, vrwkv_jax.models.tokenizer, vrwkv_jax.models.unet, vrwkv_jax.models.vae
from flax import nnx
from pallas_kernels.bi_wkv import bi_wkv
from vrwkv_jax.models.video_config import VideoConfig
from vrwkv_jax.models.unet import UNet
from vrwkv_jax.models.unet_config import UNetConfig

config = UNetConfig(
    block_out_channels=(8,), down_block_types=("DownBlock2D",), up_block_types=("UpBlock2D",), layers_per_block=1,
    norm_num_groups=4, attention_head_dim=2, cross_attention_dim=6,
)

def forward(*args):
    return UNet(config, VideoConfig(), rngs=nnx.Rngs(0))(*args)

shape = jax.eval_shape(forward, jnp.zeros((1, 3, 5, 4, 4)), jnp.zeros(1, int), jnp.zeros((1, 2, 6))).shape
assert shape == (1, 3, 5, 4, 4), shape
assert bi_wkv(jnp.zeros((1, 5, 2)), jnp.ones((1, 5, 2)), jnp.ones(2), jnp.ones(2)).tolist() == [[[1, 1]] * 5]
print("models alone")
"""


def test_models_need_few_packages():
    done = subprocess.run([sys.executable, "-c", MODELS_ALONE], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.endswith("models alone\n"), done.stderr


@pytest.mark.parametrize("command", ["tune", "edit", "studio", "metrics"])
def test_commands_leave_torch_alone(command):
    """Where it is installed, too: it takes seconds, and brings along CUDA libraries that are not JAX's."""
    code = f"import sys, vrwkv_jax.commands.{command}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def imported(source: str, module: str) -> Iterator[str]:
    """Full names of all that ``source`` imports, in functions too; ``module`` is what relative imports start from."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports_of(folder: str) -> Iterator[tuple[str, str]]:
    """(file, imported name) for all files below ``folder``."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        path = file.relative_to(ROOT)
        for name in imported(file.read_text(), ".".join(path.with_suffix("").parts)):
            yield str(path), name


def within(name: str, packages: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{package}.") for package in packages)


PEERS = ("benchmarks/gpu/peers.py", "benchmarks/unet.py")


def test_imported():
    source = "import a.b, c\nfrom d.e import f\ndef g():\n    from . import h\n    from ..i import j"
    assert set(imported(source, "top.pack.mod")) == {"a.b", "c", "d.e.f", "top.pack.h", "top.i.j"}


def test_kernels_import_only_jax_and_numpy():
    """And jaxtyping in one file, which does without where it is not there (``MODELS_ALONE``)."""
    allowed = {"jax", "jaxlib", "numpy", "pallas_kernels", *sys.stdlib_module_names}
    found = list(imports_of("pallas_kernels"))
    assert any(within(name, {"jax"}) for _, name in found)
    others = {(file, name.partition(".")[0]) for file, name in found if not within(name, allowed)}
    assert others == {("pallas_kernels/typing.py", "jaxtyping")}


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("vrwkv_jax", {"train", "convert", "benchmarks", "tests", "torch"}),
        (
            "vrwkv_jax/models",
            {
                *("vrwkv_jax.editing", "vrwkv_jax.config", "vrwkv_jax.media", "vrwkv_jax.diffusion"),
                *(
                    "vrwkv_jax.checkpoint",
                    "vrwkv_jax.tuning",
                    "vrwkv_jax.runs",
                    "vrwkv_jax.commands",
                    "diffusers",
                    "av",
                ),
            },
        ),
        ("vrwkv_jax/system", {f"vrwkv_jax.{room}" for room in ("models", "editing", "tuning", "runs", "commands")}),
        ("vrwkv_jax/media", {f"vrwkv_jax.{room}" for room in ("models", "editing", "tuning", "runs", "commands")}),
        ("vrwkv_jax/checkpoint", {f"vrwkv_jax.{room}" for room in ("editing", "tuning", "runs", "commands")}),
        ("vrwkv_jax/editing", {"vrwkv_jax.tuning", "vrwkv_jax.runs", "vrwkv_jax.commands"}),
        ("vrwkv_jax/tuning", {"vrwkv_jax.runs", "vrwkv_jax.commands"}),
        ("vrwkv_jax/runs", {"vrwkv_jax.commands"}),
        ("pallas_kernels", {"vrwkv_jax"}),
        ("convert", {"train", "benchmarks", "tests", "torch"}),
        ("train", {"benchmarks", "tests", "torch"}),
        ("benchmarks", {"train", "tests", "torch"}),
    ],
)
def test_dependency_direction(folder, forbidden):
    found = [(file, name) for file, name in imports_of(folder) if within(name, forbidden)]
    # The programs of PyTorch that ours are timed beside.
    assert [(file, name) for file, name in found if not (file in PEERS and within(name, {"torch"}))] == []
