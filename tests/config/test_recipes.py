"""The recipes: accepted as they are, by the commands that they give; their numbers are those of docs/memory.md."""

import dataclasses
import re
import shlex
from pathlib import Path

import pytest

from vrwkv_jax.config import TuneConfig, load_yaml, parse_tune_config
from vrwkv_jax.config.yaml_text import read_mapping

ROOT = Path(__file__).parents[2]
RECIPES = sorted(path for path in (ROOT / "recipes").glob("*.yaml") if path.stem != "batch")


def head(recipe: Path) -> str:
    """The comment that a recipe begins with, its lines joined."""
    lines = recipe.read_text().split("\n\n")[0].splitlines()
    assert all(line.startswith("#") for line in lines)
    return " ".join(line.removeprefix("#").strip() for line in lines)


def settings(of: dict) -> dict[str, object]:
    """Such as "tuning.steps" -> 300."""
    found: dict[str, object] = {}
    for name, value in of.items():
        inner = settings(value) if isinstance(value, dict) else {"": value}
        found |= {f"{name}.{key}".rstrip("."): leaf for key, leaf in inner.items()}
    return found


def test_there_are_recipes():
    names = {recipe.name for recipe in RECIPES}
    assert names == {
        *(f"sd15-{frames}-frames.yaml" for frames in (8, 16, 64)),
        "built-in.yaml",
        "tune-a-video.yaml",
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
class TestRecipe:
    def test_is_accepted_by_the_command_in_its_head(self, recipe, monkeypatch):
        monkeypatch.chdir(ROOT)
        command = re.search(r"Command: (vrwkv tune .*?) Memory:", head(recipe))[1]
        config = parse_tune_config(shlex.split(command)[2:])
        if recipe.stem != "built-in":
            assert config.model and config.clip.video and config.prompt and config.edit_prompts
        found = settings(dataclasses.asdict(config))
        for name, value in settings(read_mapping(recipe)).items():
            assert found[name] == (tuple(value) if isinstance(value, list) else value), name

    def test_names_no_setting_that_is_not_there(self, recipe):
        load_yaml(TuneConfig, recipe)  # which would list them
        assert settings(read_mapping(recipe)).keys() <= settings(dataclasses.asdict(TuneConfig())).keys()

    def test_says_what_it_takes_and_nothing_that_the_docs_do_not(self, recipe):
        said = head(recipe)
        assert all(f"{word}:" in said for word in ("Command", "Memory", "Time", "Expect"))
        memory = (ROOT / "docs" / "memory.md").read_text()
        column = dict(zip(("8", "16", "32", "64", "128"), zip(*rows(memory), strict=True), strict=True))
        for number in re.findall(r"(?<!GPU of )\b([\d.]+) GB", said):
            frames = str(load_yaml(TuneConfig, recipe).clip.frames)
            assert number in column[frames] or f"another {number} GB" in memory, number


def rows(table: str) -> list[list[str]]:
    """The figures of a Markdown table, row by row."""
    lines = [line for line in table.splitlines() if line.startswith("| ") and "Frames" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")[1:]] for line in lines]


def test_the_built_in_recipe_is_the_default_written_out():
    assert parse_tune_config(["--config", str(ROOT / "recipes" / "built-in.yaml")]) == parse_tune_config([])
