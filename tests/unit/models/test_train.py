"""``source: train``: the workflow trains a model, keeps it among its results, and measures it like any other."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from bitlaw.cli.main import main
from bitlaw.errors import UserError
from bitlaw.models.sources import SOURCES
from bitlaw.models.sources.train import TrainSettings
from bitlaw.models.train import _schedule, build_model
from bitlaw.text.file import File, FileSettings

ROOT = Path(__file__).resolve().parents[3]
RECIPE = {
    "text": [{"source": "file", "path": "a.txt", "origin": "made for a test"}, {"source": "file", "path": "b.txt"}],
    "vocab_size": 300,
    "tokenizer_share": 1,
    "context": 32,
    "tokens": 60_000,
    "batch": 16,
    "lr": 5e-3,
    "holdout": 16,
}
LLAMA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
MODEL = {"source": "train", "name": "tiny", "architecture": "llama", "config": LLAMA, "recipe": RECIPE}


def words(seed: int) -> str:
    """Return sentences with much to learn: the second word follows from the first."""
    chance = random.Random(seed)
    pairs = [("red", "apple"), ("blue", "ocean"), ("green", "meadow"), ("white", "snow")]
    return "\n".join("the {} {} is here .".format(*chance.choice(pairs)) for _ in range(3000))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "studies").mkdir()
    (tmp_path / "params.yaml").write_text("study: train\n", "utf-8")
    (tmp_path / "a.txt").write_text(words(0), "utf-8")
    (tmp_path / "b.txt").write_text(words(1), "utf-8")
    (tmp_path / "e.txt").write_text(words(2), "utf-8")
    study = {
        "models": [MODEL],
        "formats": ["int4_b32"],
        "methods": ["rtn"],
        "evaluation": {"text": {"source": "file", "path": "e.txt"}, "window": 32, "stride": 31, "max_tokens": 800},
    }
    (tmp_path / "studies" / "train.yaml").write_text(yaml.safe_dump(study), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", os.environ.get("OMP_NUM_THREADS", "1"))
    return tmp_path


def test_a_model_is_trained_described_and_measured(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--until", "evaluate"]) == 0
    assert "made 4 artifacts" in capsys.readouterr().out
    (described,) = (project / "results" / "model" / "tiny").glob("*.json")
    folder = described.with_suffix("")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "generation_config.json", "model.safetensors", "recipe.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
    assert recipe["n_tokens"] >= RECIPE["tokens"]
    assert recipe["recipe"]["text"]["a"]["origin"] == "made for a test"
    assert json.loads(described.read_text("utf-8"))["result"]["n_tokens"] == recipe["n_tokens"]
    assert "made for a test" in (folder / "README.md").read_text("utf-8")
    losses = []
    for label in ("unquantized", "int4_b32-rtn"):
        (cell,) = (project / "results" / "evaluate" / "tiny" / label).glob("*.json")
        losses.append(json.loads(cell.read_text("utf-8"))["result"]["nll"])
    # Untrained, the loss would be log(vocabulary) = 5.7; the sentences hold log(4) nats in six words or more tokens.
    assert losses[0] < 1.0
    assert abs(losses[1] - losses[0]) < 0.5
    # The trained weights are a result like any other: nothing trains them again.
    assert main(["run", "--until", "evaluate"]) == 0
    assert "made 0 artifacts" in capsys.readouterr().out


def test_the_text_and_the_recipe_are_in_the_key(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def planned() -> list[str]:
        assert main(["plan", "--missing"]) == 0
        return [line for line in capsys.readouterr().out.splitlines() if line.startswith("results/model/")]

    first = planned()
    (project / "b.txt").write_text(words(3), "utf-8")
    assert planned() != first
    (project / "b.txt").write_text(words(1), "utf-8")
    assert planned() == first
    study = project / "studies" / "train.yaml"
    study.write_text(study.read_text("utf-8").replace("made for a test", "told otherwise"), "utf-8")
    assert planned() == first
    study.write_text(study.read_text("utf-8").replace("lr: 0.005", "lr: 0.006"), "utf-8")
    assert planned() != first


def test_models_on_the_same_texts_read_them_once(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = File.pieces

    def counted(self: File, settings: FileSettings, root: Path) -> Iterator[str]:
        read.append(settings.path)
        return real(self, settings, root)

    monkeypatch.setattr(File, "pieces", counted)
    settings = [TrainSettings.model_validate({**MODEL, "name": name}) for name in ("one", "two", "three")]
    found = [SOURCES["train"].resolve(settings[0], project)[0].identity]
    first = list(read)
    assert set(first) == {"a.txt", "b.txt"}
    found += [SOURCES["train"].resolve(one, project)[0].identity for one in settings[1:]]
    assert found[0] == found[1] == found[2]
    assert read == first
    (project / "b.txt").write_text(words(9), "utf-8")
    assert SOURCES["train"].resolve(settings[0], project)[0].identity != found[0]


def test_a_text_too_short_is_refused(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.txt", "b.txt"):
        (project / name).write_text("the red apple\n" * 20, "utf-8")
    assert main(["run", "--until", "model"]) == 1
    assert "fewer than holdout + batch" in capsys.readouterr().err
    assert not list((project / "results").rglob("*.json"))


def test_wrong_architectures_and_fields_are_named() -> None:
    with pytest.raises(UserError, match="unknown architecture 'lama'; did you mean 'llama'"):
        build_model("lama", {}, 300, 32)
    with pytest.raises(UserError, match="did you mean 'hidden_size'"):
        build_model("llama", {"hiden_size": 32}, 300, 32)


def test_the_zoo_is_what_its_study_trains() -> None:
    study = yaml.safe_load((ROOT / "studies" / "zoo.yaml").read_text("utf-8"))
    for model in study["models"]:
        folder = ROOT / "data" / "zoo" / model["name"]
        stored = json.loads((folder / "recipe.json").read_text("utf-8"))
        recipe = {name: value for name, value in model["recipe"].items() if name != "text"}
        assert {name: stored["recipe"][name] for name in recipe} == recipe
        config = json.loads((folder / "config.json").read_text("utf-8"))
        assert config["model_type"] == model["architecture"] == stored["architecture"]
        assert {name: config[name] for name in model["config"]} == model["config"]


def test_the_learning_rate_rises_and_then_falls_to_nothing() -> None:
    rates = [_schedule(step, 100, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(later < earlier for earlier, later in pairwise(rates[10:]))
    assert rates[-1] == pytest.approx(1 / 90)


def test_a_training_that_is_killed_goes_on_where_it_was(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from bitlaw.models import train

    assert main(["run", "--until", "model"]) == 0
    ((whole),) = (project / "results" / "model" / "tiny").glob("*/model.safetensors")
    weights, curve = whole.read_bytes(), json.loads((whole.parent / "recipe.json").read_text("utf-8"))["curve"]
    for path in (project / "results").rglob("*.json"):
        path.unlink()
    shutil.rmtree(whole.parent)
    monkeypatch.setattr(train, "SAVE_SECONDS", 0.0)
    steps = iter(range(1000))

    def killed(path: Path, *rest: object) -> None:
        saved(path, *rest)
        if next(steps) == 50:
            raise KeyboardInterrupt

    saved = train._save
    monkeypatch.setattr(train, "_save", killed)
    assert main(["run", "--until", "model"]) == 130
    (state,) = (project / ".bitlaw" / "training").iterdir()
    assert not whole.exists()
    assert main(["run", "--until", "model"]) == 0
    assert next(steps) < 51 + 118 - 50  # steps in all, less those that were done before
    assert whole.read_bytes() == weights
    assert json.loads((whole.parent / "recipe.json").read_text("utf-8"))["curve"] == curve
    assert not state.exists()


def test_the_curve_has_all_tokens_and_falls(project: Path) -> None:
    assert main(["run", "--until", "model"]) == 0
    (recipe,) = (project / "results").rglob("recipe.json")
    told = json.loads(recipe.read_text("utf-8"))
    ends, losses = zip(*told["curve"], strict=True)
    assert ends[-1] == told["n_tokens"]
    assert len(set(ends)) == len(ends) <= 200
    assert losses[-1] < losses[0]
