"""Several variants of a model in one pass: each as if it were alone, whatever the others are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bitlaw.artifacts import read_json
from bitlaw.errors import UserError
from bitlaw.evaluation import divergence as module
from bitlaw.evaluation import scorer
from bitlaw.evaluation.divergence import Text, compare, compare_all, forget, own_loss
from bitlaw.evaluation.nll import nll
from bitlaw.models import variants as variants_module
from bitlaw.models.compiled import compile_blocks
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.variants import Several, are_plain, variants
from bitlaw.stages import evaluate as evaluate_module
from bitlaw.study import make as make_module
from bitlaw.study.make import make_missing
from projects import Project
from tiny import tiny_model

FAMILIES = ["gpt2", "opt", "bloom", "llama", "gpt_neox", "gemma2", "mpt"]
Change = Callable[[], AbstractContextManager[None]]


def text(n: int = 130, window: int = 24, stride: int = 20, batch: int = 3) -> Text:
    return Text(torch.randint(0, 320, (n,), generator=torch.Generator().manual_seed(n)), window, stride, batch)


def change(model: Any, seed: int, size: float = 0.2) -> Change:
    generator = torch.Generator().manual_seed(seed)
    linears = quantizable(model)
    noise = {each.name: size * torch.randn(each.shape, generator=generator) for each in linears}
    weights = {each.name: each.weight() + noise[each.name].to(each.parameter) for each in linears}
    return lambda: swapped(linears, weights)


@pytest.fixture(autouse=True)
def nothing_kept() -> None:
    forget()


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("on", [text(), text(window=24, stride=24, batch=2)], ids=["overlapping", "disjoint"])
def test_each_is_what_it_is_alone(family: str, on: Text) -> None:
    model = tiny_model(family)
    changes = [change(model, seed) for seed in range(5)]
    found = compare_all(model, changes, on, "key", count=3)
    for one, each in zip(found, changes, strict=True):
        alone = compare(model, each, on, "alone")
        assert one.loss.spans == alone.loss.spans
        assert one.loss.sums == pytest.approx(alone.loss.sums, rel=1e-5)
        assert one.kl == pytest.approx(alone.kl, rel=1e-4, abs=1e-6)
        assert one.top1_agreement == pytest.approx(alone.top1_agreement, abs=0.02)
    own = own_loss(model, on, "own", count=3)
    assert own.sums == pytest.approx(nll(model, on.ids, on.window, on.stride, on.batch).sums, rel=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_digits_do_not_tell_of_the_others(family: str) -> None:
    model, on = tiny_model(family), text()
    changes = [change(model, seed) for seed in range(4)]
    together = compare_all(model, changes, on, "key", count=4)
    for one, each in zip(together, changes, strict=True):
        forget()
        assert compare_all(model, [each], on, "key", count=4) == [one]
    forget()
    assert compare_all(model, changes[::-1], on, "key", count=4) == together[::-1]
    # The weights of the model itself are at no distance from it, for its own states were made in the same way.
    (same,) = compare_all(model, [change(model, 0, size=0.0)], on, "key", count=4)
    assert abs(same.kl) < 1e-6 and same.top1_agreement == 1.0
    assert same.loss.sums == own_loss(model, on, "key", count=4).sums


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("compiled", [False, True])
def test_on_a_gpu(family: str, compiled: bool) -> None:
    model = tiny_model(family).to("cuda", torch.float16)
    if compiled:
        compile_blocks(model)
    on = Text(text(600).ids.cuda(), 24, 24, 25)
    changes = [change(model, seed) for seed in range(5)]
    together = compare_all(model, changes, on, "key", count=3)
    assert compare_all(model, changes[::-1], on, "key", count=3) == together[::-1]
    assert [compare_all(model, [each], on, "key", count=3)[0] for each in changes] == together
    for one, alone in zip(together, compare_all(model, changes, on, "alone"), strict=True):
        assert one.loss.nll == pytest.approx(alone.loss.nll, rel=2e-3)
        assert one.kl == pytest.approx(alone.kl, rel=2e-2, abs=1e-4)


def test_what_is_kept_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, on = tiny_model("llama"), text(300)
    changes = [change(model, seed) for seed in range(3)]
    first = compare_all(model, changes, on, "key", count=2)
    assert module._kept
    for limit in (1, 20_000):  # nothing fits; some windows do
        forget()
        monkeypatch.setattr(module, "KEPT_BYTES", limit)
        assert compare_all(model, changes, on, "key", count=2) == first
        assert not module._kept


@pytest.mark.parametrize("end", ["tail", "nothing"])
def test_models_that_do_more_behind_their_head(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, on = tiny_model("gemma2"), text()  # it caps its logits
    if end == "nothing":
        monkeypatch.setattr(scorer.Scorer, "_hidden", lambda *_: None)
    changes = [change(model, seed) for seed in range(3)]
    found = compare_all(model, changes, on, "key", count=3)
    for one, each in zip(found, changes, strict=True):
        assert one.loss.nll == pytest.approx(compare(model, each, on, "alone").loss.nll, rel=1e-5)


def test_the_model_stays_as_it_is() -> None:
    model, on = tiny_model("gpt2"), text()
    before = {name: (id(one), one._version) for name, one in model.named_parameters()}
    kinds = [type(one) for one in model.modules()]
    made = variants(model, 3)
    assert variants(model, 3).model is made.model and variants(model, 2).model is not made.model
    with pytest.raises(ZeroDivisionError), made.holding([change(model, 0), change(model, 1)]):
        raise ZeroDivisionError
    compare_all(model, [change(model, 0)], on, "key", count=3)
    assert {name: (id(one), one._version) for name, one in model.named_parameters()} == before
    assert [type(one) for one in model.modules()] == kinds
    # All but the linears of the blocks is shared, and what held weights holds none any more.
    several = [one for one in made.model.modules() if isinstance(one, Several)]
    assert len(several) == len(quantizable(model))
    assert all(one.weight.untyped_storage().nbytes() * 3 == one.weight.nbytes for one in several)
    own = {one.data_ptr() for one in model.parameters()}
    assert {one.data_ptr() for one in made.model.parameters()} <= own


def test_weights_that_are_no_numbers() -> None:
    model, on = tiny_model("llama"), text()
    with torch.no_grad():
        quantizable(model)[0].parameter[0, 0] = float("nan")
    good, bad = compare_all(model, [zeroed(model), change(model, 0)], on, "key", count=2)
    assert good.loss.finite and not bad.loss.finite


def zeroed(model: Any) -> Change:
    linears = quantizable(model)
    return lambda: swapped(linears, {one.name: torch.zeros(one.shape) for one in linears})


class _Gathers(nn.Module):
    """Sends the rows of a batch through a linear in another order, as a mixture of experts does."""

    def __init__(self, inner: nn.Module, rows: slice) -> None:
        super().__init__()
        self.inner, self.rows = inner, rows

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([self.inner(x[self.rows]), self.inner(x[self.rows])])[: len(x)]


@pytest.mark.parametrize(
    ("rows", "says"), [(slice(None, None, 2), "rows of a batch apart"), (slice(1), "rows of a batch apart")]
)
def test_rows_that_do_not_stay_apart(rows: slice, says: str) -> None:
    model = tiny_model("llama")
    block = model.model.layers[0].mlp
    block.up_proj = _Gathers(block.up_proj, rows)
    for _ in range(2):
        with pytest.raises(UserError, match=says):
            variants(model, 4)


def test_which_linears_others_can_stand_for() -> None:
    class Other(nn.Linear):
        """Could do anything."""

    for family in FAMILIES:
        assert are_plain(quantizable(tiny_model(family)))
    model = tiny_model("llama")
    model.model.layers[0].mlp.up_proj = Other(32, 48, bias=False)
    assert not are_plain(quantizable(model))


# In a study


STAGES = {"model", "calibrate", "factorize", "quantize", "mix", "evaluate"}
HOLD = ("calibrate", "factorize", "quantize")


def losses(project: Project) -> Mapping[str, Any]:
    """Return what was measured of each cell, by model, format and method, and place among its files."""
    found = sorted((project.root / "results" / "evaluate").rglob("*.json"))
    keys = [f"{path.parent.relative_to(project.root)} {read_json(path)['n_tokens']}" for path in found]
    assert len(set(keys)) == len(keys)
    return {key: path.read_bytes() for key, path in zip(keys, found, strict=True)}


def grid(count: int) -> dict[str, Any]:
    protocol = {"text": {"source": "pydoc"}, "window": 64, "stride": 64, "batch": 8, "variants": count}
    return {
        "models": [{"source": "zoo", "name": ["gpt2-0.1m", "llama-0.1m"]}],
        "formats": ["int{3..6}_b64", "mxint4_b32"],
        "methods": ["rtn", "gptq"],
        "mixes": [{"q_ratio": [0.5], "granularity": "layer", "select": "random", "trials": 1}],
        "evaluation": [{**protocol, "max_tokens": 1000}, {**protocol, "name": "more", "max_tokens": 2000}],
    }


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    project = Project(tmp_path_factory.mktemp("together") / "p", **grid(4))
    assert not make_missing(project.plan(), STAGES)
    return losses(project)


def test_a_study_computes_cells_together(
    tmp_path: Path, written: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    own = make_module._make_together
    monkeypatch.setattr(
        make_module, "_make_together", lambda orders, root: sizes.append(len(orders)) or own(orders, root)
    )
    project = Project(tmp_path / "p", **grid(4))
    assert not make_missing(project.plan(), STAGES, hold=HOLD)
    assert losses(project) == written
    assert max(sizes) == 4 and sum(sizes) > len(written) / 2
    one = Project(tmp_path / "one", **grid(1))
    sizes.clear()
    assert not make_missing(one.plan(), STAGES, hold=HOLD)
    assert not sizes
    alone = losses(one)
    assert alone.keys() == written.keys()
    for key, data in alone.items():
        assert read(data)["nll"] == pytest.approx(read(written[key])["nll"], rel=1e-6)


def test_large_models_are_computed_one_by_one(
    tmp_path: Path, written: Mapping[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = {"gpt2-0.1m": [64 * 192, 64 * 64, 64 * 256, 256 * 64]}
    monkeypatch.setattr(variants_module, "SMALL", 2 * sum(sizes["gpt2-0.1m"]))
    evaluate_module._is_small.cache_clear()
    project, groups = Project(tmp_path / "p", **grid(4)), set[tuple[str, int]]()
    own = make_module._make_group

    def spied(group: Any, *given: Any, **named: Any) -> Any:
        groups.update((one["path"].split("/")[2], len(group)) for one in group if one["stage"] == "evaluate")
        return own(group, *given, **named)

    monkeypatch.setattr(make_module, "_make_group", spied)
    assert not make_missing(project.plan(), STAGES, hold=HOLD)
    evaluate_module._is_small.cache_clear()
    assert {size for model, size in groups if model == "llama-0.1m"} == {1}
    assert max(size for model, size in groups if model == "gpt2-0.1m") == 4
    found = losses(project)
    assert {key for key, data in found.items() if data == written[key]} >= {key for key in found if "gpt2" in key}
    assert {key for key, data in found.items() if data != written[key]} <= {key for key in found if "llama" in key}


def read(data: bytes) -> Mapping[str, Any]:
    import json

    found: Mapping[str, Any] = json.loads(data)["result"]
    return found


def test_a_cell_by_itself_has_the_same_digits(tmp_path: Path, written: Mapping[str, bytes]) -> None:
    project = Project(tmp_path / "p", **grid(4))
    assert not make_missing(project.plan(), STAGES)
    cells = sorted((project.root / "results" / "evaluate").rglob("*.json"))
    for path in cells[::7]:
        path.unlink()
    assert not make_missing(project.plan(), STAGES)
    assert losses(project) == written


def test_a_cell_that_fails_leaves_the_others(tmp_path: Path, written: Mapping[str, bytes]) -> None:
    project = Project(tmp_path / "p", **grid(4))
    assert not make_missing(project.plan(), {"model", "calibrate", "factorize", "quantize", "mix"})
    damaged = sorted((project.root / "results" / "quantize" / "gpt2-0.1m" / "int4_b64-rtn").glob("*.safetensors"))
    data = bytearray(damaged[0].read_bytes())
    data[-1] ^= 1
    damaged[0].write_bytes(data)
    errors = make_missing(project.plan(), STAGES)
    assert len(errors) >= 2
    assert all("damaged" in str(error) or "not there" in str(error) for error in errors.values())
    found = losses(project)
    assert len(found) == len(written) - len(errors)
    assert all(written[key] == data for key, data in found.items())
