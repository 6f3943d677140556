"""Zero-shot tasks by lm-evaluation-harness, on a model that is in memory.

The harness's own cache of answers is never used: it knows a model by its name, not by its weights.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from bitlaw.errors import UserError
from bitlaw.evaluation.task_files import harness_version, read_rows, read_settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ACCURACIES = ("acc", "acc_norm", "exact_match")
"""Metrics that are an accuracy; of those that a task has, the first one counts for the mean."""

KEPT_TASKS, KEPT_TEXTS = 16, 2**16
_kept: dict[str, Any] = {}
_encoded: WeakKeyDictionary[PreTrainedTokenizerBase, dict[tuple[Any, ...], tuple[int, ...]]] = WeakKeyDictionary()
"""By tokenizer, what texts became, by how they were encoded."""

_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


@dataclass(frozen=True)
class Protocol:
    """How tasks are run.

    Attributes:
        limit: only the first questions of each task; all if null.
        fewshot: examples before each question.
        seed: of the choice of examples.
        batch: questions at a time.
        context: tokens that the model can read; null if it has no limit of its own.
    """

    limit: int | None
    fewshot: int
    seed: int
    batch: int
    context: int | None


def check_version(expected: str) -> None:
    """Raise ``UserError`` if the harness is not installed in the version ``expected``."""
    if (found := harness_version()) != expected:
        raise UserError(f"planned with lm-evaluation-harness {expected}, but here is {found}; "
                        "its tasks may differ, so install the same one")  # fmt: skip


def run_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    protocol: Protocol,
) -> list[dict[str, Any]]:
    """Return what the model scores in each task.

    Args:
        model: a causal language model in evaluation mode.
        tokenizer: its tokenizer; a copy of it is used.
        tasks: spec and hints of each, see ``task_files.Task``.
        protocol: how they are run.

    Returns:
        For each task ``name``, ``metrics`` (``{metric: {value, stderr}}``; null for a stderr that is not known),
        ``accuracy`` and its ``stderr``, ``accuracy_metric``, ``n``, ``version`` and ``fewshot``.

    Raises:
        UserError: data that cannot be had, or a task that has no accuracy.
    """
    with _quiet(), _templates_once():
        from lm_eval.evaluator import evaluate

        loaded = {spec["name"]: _load(spec, hints) for spec, hints in tasks}
        random.seed(protocol.seed)  # a task may draw by itself
        for task in loaded.values():
            # Some tasks fix the number of examples in their settings; that of the protocol holds for the others.
            if task.get_config("num_fewshot") != 0 or not protocol.fewshot:
                task.set_config(key="num_fewshot", value=protocol.fewshot)
            task.set_fewshot_seed(seed=protocol.seed)
        # No bootstrap: the error of an accuracy follows from a formula, and nobody needs that of LAMBADA's perplexity.
        lm = _wrapped(model, tokenizer, protocol)
        result = evaluate(lm, loaded, limit=protocol.limit, bootstrap_iters=0, log_samples=False)
    return [_record(name, result) for name in loaded]


def mean_accuracy(records: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the mean of the tasks' accuracies and its standard error, the tasks being independent."""
    n = len(records)
    return (
        sum(record["accuracy"] for record in records) / n,
        math.sqrt(sum(record["stderr"] ** 2 for record in records)) / n,
    )


def _wrapped(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, protocol: Protocol) -> Any:
    """Return the model as the harness sees it; it gets a copy of the tokenizer, for it may add a token for padding."""
    from lm_eval.models.huggingface import HFLM

    known = _encoded.setdefault(tokenizer, {})

    class Remembering(HFLM):  # type: ignore[misc]
        """Encodes a text once: all cells of a model are asked the same, and small ones answer sooner than that."""

        def tok_encode(self, string: str, *given: Any, **named: Any) -> list[int]:
            key = (string, given, *sorted(named.items()))
            if key not in known:
                if len(known) >= KEPT_TEXTS:
                    known.clear()
                known[key] = tuple(super().tok_encode(string, *given, **named))
            return list(known[key])

    return Remembering(
        pretrained=model,
        tokenizer=copy.deepcopy(tokenizer),
        backend="causal",
        batch_size=protocol.batch,
        max_length=protocol.context,
    )


def _load(spec: Mapping[str, Any], hints: Mapping[str, Any]) -> Any:
    """Return the harness's object for a task; a few are kept, with their data."""
    key = f"{spec} {hints}"
    if key not in _kept:
        from datasets.exceptions import DatasetsError
        from jinja2 import TemplateError
        from lm_eval.tasks import TaskManager

        while len(_kept) >= KEPT_TASKS:
            _kept.pop(next(iter(_kept)))
        try:
            found = TaskManager(include_defaults=False).load([_config(spec, hints)])["tasks"]
        except UserError:
            raise
        except (OSError, ValueError, RuntimeError, DatasetsError) as error:
            raise UserError(
                f"its data can't be loaded ({_first_line(error)}); run this once where there is a network, "
                "copy HF_HOME here, or give the data as JSON lines: {task: ..., data: ...}",
                place=f"task {spec['name']}",
            ) from None
        except (KeyError, TypeError, TemplateError) as error:
            raise UserError(
                f"its settings do not fit its data: {_first_line(error)}", place=f"task {spec['name']}"
            ) from None
        (_kept[key],) = found.values()
    return _kept[key]


def _config(spec: Mapping[str, Any], hints: Mapping[str, Any]) -> str | dict[str, Any]:
    """Return what the harness makes a task of: the path of its own settings, or other settings with their data."""
    if spec["settings"] is None:
        return str(hints["settings"])
    config = {**read_settings(Path(hints["settings"])), "task": spec["name"]}
    if spec["data"] is None:
        return config
    splits = [config[split] for split in _SPLITS if config.get(split)]
    if not splits:
        raise UserError("it must name a split, such as `test_split: test`", place=str(hints["settings"]))
    rows = _Rows(read_rows(Path(hints["data"]), spec["data"]), splits)
    return {**config, "dataset_path": "json", "dataset_name": None, "dataset_kwargs": None, "custom_dataset": rows}


class _Rows:
    """Rows as the data set of a task; every split that its settings name has all of them."""

    def __init__(self, rows: list[dict[str, Any]], splits: list[str]) -> None:
        self.rows, self.splits = rows, splits

    def __call__(self, **options: Any) -> dict[str, Any]:
        from datasets import Dataset

        whole = Dataset.from_list(self.rows)
        return dict.fromkeys(self.splits, whole)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Rows:
        return self


def _record(name: str, result: Mapping[str, Any]) -> dict[str, Any]:
    n = result["n-samples"][name]["effective"]
    metrics: dict[str, dict[str, float | None]] = {}
    for key, value in result["results"][name].items():
        metric, comma, _ = key.partition(",")
        # A metric that is computed after several filters counts after the first.
        if comma and metric not in metrics and isinstance(value, int | float):
            metrics[metric] = {"value": float(value), "stderr": _stderr(value, n) if metric in ACCURACIES else None}
    chosen = next((metric for metric in ACCURACIES if metric in metrics), None)
    if chosen is None:
        raise UserError(f"it has no accuracy, only {', '.join(metrics) or 'nothing'}", place=f"task {name}")
    return {
        "name": name,
        "accuracy": metrics[chosen]["value"],
        "stderr": metrics[chosen]["stderr"],
        "accuracy_metric": chosen,
        "metrics": metrics,
        "n": n,
        "fewshot": result["n-shot"][name],
        "version": str(result["versions"].get(name)),
    }


def _stderr(accuracy: float, n: int) -> float:
    """Return the standard error of a mean of ``n`` zeros and ones; NaN for one question, which has no spread."""
    return math.sqrt(max(0.0, accuracy * (1 - accuracy)) / (n - 1)) if n > 1 else math.nan


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


_templates: dict[str, Any] = {}


@contextmanager
def _templates_once() -> Iterator[None]:
    """Compile each template of a task once: the harness does it for every question, and it takes longer than the model.

    Templates are a few texts a task, so all are kept.
    """
    from lm_eval import utils

    compiled = utils.env.from_string

    def kept(source: str) -> Any:
        if source not in _templates:
            _templates[source] = compiled(source)
        return _templates[source]

    utils.env.from_string = kept
    try:
        yield
    finally:
        utils.env.from_string = compiled


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the harness from telling its progress, and from warning of what is meant; errors are raised as ever."""
    import datasets
    import lm_eval  # noqa: F401 (it sets up its logging when it is imported)
    from transformers.utils import logging as hf

    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    bars = datasets.utils.logging.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    hf.disable_progress_bar()
    try:
        with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        if bars:
            datasets.enable_progress_bars()
