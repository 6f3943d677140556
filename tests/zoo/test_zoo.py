"""The embedded models, as they are committed: real, trained, small, all measured alike."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from projects import ZOO

FAMILIES = ("bloom", "gpt2", "llama", "neox", "opt")
SIZES = {"0.1m": 0.1e6, "0.4m": 0.4e6, "1.6m": 1.6e6}
NAMES = [f"{family}-{size}" for family in FAMILIES for size in SIZES]
TOKENS = 8192


def said(name: str, file: str) -> Any:
    return json.loads((ZOO / name / file).read_text())


def test_five_families_in_three_sizes() -> None:
    assert sorted(path.name for path in ZOO.iterdir()) == sorted(NAMES)


def test_all_is_small_and_nothing_is_pickled() -> None:
    files = [path for path in ZOO.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 32 * 2**20
    assert {path.suffix for path in files} == {".json", ".md", ".safetensors"}
    assert {path.name for path in files if path.suffix == ".safetensors"} == {"model.safetensors"}


def test_one_tokenizer_for_all() -> None:
    assert len({(ZOO / name / "tokenizer.json").read_bytes() for name in NAMES}) == 1
    assert {said(name, "config.json")["vocab_size"] for name in NAMES} == {2048}


def test_all_have_the_same_training() -> None:
    recipes = {json.dumps(said(name, "recipe.json")["recipe"], sort_keys=True) for name in NAMES}
    assert len(recipes) == 1
    assert len({said(name, "recipe.json")["n_tokens"] for name in NAMES}) == 1


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_16_bit_safetensors(name: str) -> None:
    from safetensors import safe_open

    with safe_open(ZOO / name / "model.safetensors", "pt") as file:
        assert {file.get_slice(key).get_dtype() for key in file.keys()} <= {"F16", "BF16"}  # noqa: SIM118


@pytest.mark.parametrize("name", NAMES)
def test_the_recipe_says_how_it_was_trained(name: str) -> None:
    recipe = said(name, "recipe.json")
    assert recipe["n_tokens"] >= recipe["recipe"]["tokens"] - recipe["recipe"]["batch"] * recipe["recipe"]["context"]
    assert recipe["unique_tokens"] > 50e6
    assert 1.5 < recipe["losses"]["held_out"] < 5
    assert abs(recipe["losses"]["train"] - recipe["losses"]["held_out"]) < 0.2
    assert {"vocab_size", "context", "tokens", "batch", "lr", "warmup", "weight_decay", "seed"} <= set(recipe["recipe"])
    for text in recipe["recipe"]["text"].values():
        assert re.fullmatch("[0-9a-f]{64}", text["sha256"])
        assert re.search("CC BY-SA|public domain|PSF", text["origin"])


@pytest.mark.parametrize("name", NAMES)
def test_the_card_says_what_the_recipe_says(name: str) -> None:
    card, recipe = (ZOO / name / "README.md").read_text(), said(name, "recipe.json")
    assert f"# {name}\n" in card
    assert said(name, "config.json")["architectures"][0] in card
    for number in (f"{recipe['n_tokens']:,}", str(recipe["losses"]["held_out"]), str(recipe["recipe"]["lr"])):
        assert number in card
    for text in recipe["recipe"]["text"].values():
        assert text["sha256"] in card and text["origin"] in card


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    """All models, loaded from their files."""
    import torch

    from bitlaw.models.load import load_model

    torch.set_num_threads(1)
    return {name: load_model({"pretrained": str(ZOO / name)}) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_the_size_is_in_the_name(models: dict[str, Any], name: str) -> None:
    from bitlaw.models.describe import describe

    about = describe(models[name])
    assert about["n_params"] == pytest.approx(SIZES[name.rpartition("-")[2]], rel=0.15)
    assert said(name, "recipe.json")["n_tokens"] >= 200 * about["n_params"]
    assert f"{about['n_params']:,}" in (ZOO / name / "README.md").read_text()


@pytest.fixture(scope="module")
def losses(models: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, float]:
    """Nats per token on text that no model was trained on."""
    from bitlaw.evaluation.nll import nll
    from bitlaw.models.load import load_tokenizer
    from bitlaw.models.tokens import encode
    from bitlaw.text.store import parse_text, resolve_text

    text = resolve_text(parse_text("pydoc"), tmp_path_factory.mktemp("text")).path.read_text("utf-8")
    ids = encode(load_tokenizer({"pretrained": str(ZOO / NAMES[0])}), text, TOKENS).ids
    return {name: nll(model, ids, 256, 255, 8).nll for name, model in models.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_loss_falls_with_size(losses: dict[str, float], family: str) -> None:
    small, middle, large = (losses[f"{family}-{size}"] for size in SIZES)
    assert small > middle + 0.1 > large + 0.2
    assert 2 < large < small < 6  # a model that knows nothing has log(2048) = 7.6


def test_the_losses_are_those_of_trained_models(losses: dict[str, float]) -> None:
    """The text differs from the training text, so the loss is higher than the held-out one, but not by much."""
    for name, loss in losses.items():
        assert 0 < loss - said(name, "recipe.json")["losses"]["held_out"] < 1.2, name


def test_a_folder_can_be_read_with_transformers_alone() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = str(ZOO / "gpt2-0.1m")
    tokens = AutoTokenizer.from_pretrained(folder)("A model reads", return_tensors="pt")
    assert AutoModelForCausalLM.from_pretrained(folder)(**tokens).logits.shape == (
        1,
        tokens["input_ids"].shape[1],
        2048,
    )


def test_paths_say_nothing_of_the_machine_they_come_from() -> None:
    for path in [*ZOO.rglob("*.json"), *ZOO.rglob("*.md")]:
        assert not re.search(r"/(home|root|tmp|work)/", Path(path).read_text()), path
