"""Zero-shot tasks: the scores are lm-evaluation-harness's, the model is the one in memory, nothing needs a network."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from bitlaw.evaluation import harness
from bitlaw.evaluation.harness import Protocol, mean_accuracy, run_tasks
from bitlaw.evaluation.nll import nll
from bitlaw.evaluation.task_files import SHIPPED, read_settings, resolve_task
from bitlaw.models.linears import quantizable, swapped
from bitlaw.models.load import load_model, load_tokenizer
from projects import SHARED, ZOO
from tiny import WORDS, tiny_model, tiny_tokenizer
from zeroshot import CHOICE, LAST, PROTOCOL, ROLLING, entry, lines, pair

EVAL = SHARED / "data" / "eval"
pytestmark = pytest.mark.usefixtures("offline")

# ---- the questions are those of the harness

HARNESS = Path(importlib.util.find_spec("lm_eval").origin).parent / "tasks"  # type: ignore[union-attr, arg-type]
ARC = {"question": "What?", "choices": {"text": ["a b", "c", "d"], "label": ["A", "B", "C"]}, "answerKey": "C"}
ARC_OURS = {"query": "Question: What?", "choices": ["a b", "c", "d"], "gold": 2}
WSC = {"text": "Ann told Eve that she was late.", "pronoun": "she", "pronoun_loc": 18, "options": ["Ann", "Eve"],
       "label": 0}  # fmt: skip
SCHEMA = {
    # name: the harness's file, a question as its data set has it, and as a file of JSON lines for our task has it
    "lambada": (
        "lambada/lambada_openai.yaml",
        {"text": "In my palm is a clear stone"},
        {"context": "In my palm is a", "continuation": "clear stone"},
    ),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        {"ind": 1, "activity_label": "Cooking", "ctx_a": "A man [title] stands.", "ctx_b": "he then", "label": "2",
         "endings": ["cuts a fruit.", "sings  a song.", "runs [step] away.", "sleeps."]},
        {"query": "Cooking: A man. stands. He then", "gold": 2,
         "choices": ["cuts a fruit.", "sings a song.", "runs away.", "sleeps."]},
    ),
    "piqa": ("piqa/piqa.yaml", *[{"goal": "Cut it", "sol1": "knife", "sol2": "spoon", "label": 0}] * 2),
    "winogrande": (
        "winogrande/default.yaml",
        *[{"sentence": "Ann met Eve, but _ was late.", "option1": "Ann", "option2": "Eve", "answer": "2"}] * 2,
    ),
    "arc_easy": ("arc/arc_easy.yaml", ARC, ARC_OURS),
    "arc_challenge": ("arc/arc_challenge.yaml", ARC, ARC_OURS),
    "boolq": (
        "super_glue/boolq/default.yaml",
        {"passage": "The sky.", "question": "is it blue", "label": 1},
        {"query": "Passage: The sky.\nQuestion: is it blue?", "choices": ["no", "yes"], "gold": 1},
    ),
    "copa": (
        "super_glue/copa/default.yaml",
        {"premise": "The man, old, ran.", "question": "cause", "choice1": "He had time.", "choice2": "I did.",
         "label": 1},
        {"query": "The man, old, ran, because", "choices": ["he had time.", "i did."], "gold": 1},
    ),
    "openbookqa": (
        "openbookqa/openbookqa.yaml",
        {"question_stem": "Fog is", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "B"},
        {"query": "Fog is", "choices": ["a", "b"], "gold": 1},
    ),
    "social_iqa": (
        "siqa/siqa.yaml",
        *[{"context": "A b.", "question": "Why?", "answerA": "x", "answerB": "y", "answerC": "z", "label": "3"}] * 2,
    ),
    "wsc273": (
        "wsc273/default.yaml",
        WSC,
        {"context_options": ["Ann told Eve that Ann", "Ann told Eve that Eve"], "continuation": "was late.", "gold": 0},
    ),
}  # fmt: skip


def test_every_task_of_ours_is_compared() -> None:
    assert {path.stem for path in SHIPPED.glob("*.yaml")} == set(SCHEMA)


def questions(config: Any, row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what a task asks of the model, the right answer, and its metrics."""
    from lm_eval.tasks import TaskManager

    rows = harness._Rows([row], ["train", "validation", "test"])
    config = {key: value for key, value in config.items() if key not in ("tag", "include")}
    config |= {"dataset_path": "json", "dataset_name": None, "custom_dataset": rows}
    (task,) = TaskManager(include_defaults=False).load([config])["tasks"].values()
    task.set_config("num_fewshot", 0)
    task.build_all_requests(limit=None, rank=0, world_size=1)
    doc = task.eval_docs[0]
    metrics = {name for name in task.aggregation() if name in harness.ACCURACIES}
    return [one.args for one in task.instances], task.doc_to_target(doc), metrics


@pytest.mark.parametrize("name", SCHEMA)
def test_our_tasks_ask_what_the_harness_asks(name: str) -> None:
    from lm_eval.tasks._yaml_loader import load_yaml

    file, theirs, ours = SCHEMA[name]
    expected = questions(load_yaml(HARNESS / file, resolve_func=True, recursive=True), theirs)
    assert questions(read_settings(SHIPPED / f"{name}.yaml"), ours) == expected


@pytest.mark.parametrize("fewshot", [0, 2])
def test_the_scores_are_those_of_the_harness(tmp_path: Path, fewshot: int) -> None:
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    tasks = [
        resolve_task(entry("hellaswag", "choice.jsonl"), tmp_path) for _ in [lines(tmp_path / "choice.jsonl", CHOICE)]
    ]
    tasks.append(resolve_task(entry("lambada", str(lines(tmp_path / "last.jsonl", LAST))), tmp_path))
    records = run_tasks(model, tokenizer, [pair(task) for task in tasks], Protocol(None, fewshot, 7, 4, 64))
    files = {"hellaswag": tmp_path / "choice.jsonl", "lambada": tmp_path / "last.jsonl"}
    configs = [
        {**yaml.safe_load((SHIPPED / f"{name}.yaml").read_text()), "dataset_path": "json", "dataset_kwargs": {
            "data_files": {"test": str(path)}, "cache_dir": str(tmp_path / "cache")}}
        for name, path in files.items()
    ]  # fmt: skip
    theirs = simple_evaluate(
        HFLM(pretrained=model, tokenizer=tiny_tokenizer(), batch_size=4, max_length=64), tasks=configs,
        task_manager=TaskManager(include_defaults=False), num_fewshot=fewshot, fewshot_random_seed=7,
        bootstrap_iters=10,
    )  # fmt: skip
    assert theirs is not None
    for record in records:
        expected = theirs["results"][record["name"]]
        assert record["n"] == len(CHOICE if record["name"] == "hellaswag" else LAST)
        assert record["fewshot"] == fewshot
        for metric, found in record["metrics"].items():
            assert found["value"] == expected[f"{metric},none"]
            assert found["stderr"] == pytest.approx(expected[f"{metric}_stderr,none"], abs=1e-12)
    assert set(records[0]["metrics"]) == {"acc", "acc_norm"} and set(records[1]["metrics"]) == {"acc"}
    assert 0.1 < records[0]["accuracy"] < 0.9 and records[0]["accuracy"] == records[0]["metrics"]["acc"]["value"]


def test_the_mean_over_tasks_and_its_error() -> None:
    records = [{"accuracy": 0.5, "stderr": 0.03}, {"accuracy": 0.7, "stderr": 0.04}]
    mean, stderr = mean_accuracy(records)
    assert (mean, stderr) == (pytest.approx(0.6), pytest.approx(0.025))


# ---- likelihoods are ours


def wrapped(model: Any, context: int = 64) -> Any:
    return harness._wrapped(model, tiny_tokenizer(), Protocol(None, 0, 0, 4, context))


@pytest.mark.parametrize("family", ["gpt2", "opt", "bloom", "llama", "gpt_neox"])
def test_likelihoods_are_those_of_our_own_loss(family: str) -> None:
    from lm_eval.api.instance import Instance

    model, tokenizer = tiny_model(family), tiny_tokenizer()
    asked = [("the model reads", " a text"), ("each token is", " naïve 漢字"), ("how", " likely each token is; café")]
    requests = [Instance("loglikelihood", {}, arguments, 0) for arguments in asked]
    found = [likelihood for likelihood, _ in wrapped(model).loglikelihood(requests, disable_tqdm=True)]
    for (context, more), likelihood in zip(asked, found, strict=True):
        part, whole = (
            torch.tensor(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in (context, context + more)
        )
        assert whole[: len(part)].tolist() == part.tolist()
        ours = -sum(nll(model, whole, len(whole), len(whole), 1).sums)
        if len(part) > 1:
            ours += sum(nll(model, part, len(part), len(part), 1).sums)
        assert likelihood == pytest.approx(ours, abs=1e-4)


@pytest.mark.parametrize("family", ["gpt2", "llama"])
@pytest.mark.parametrize("whole_windows", [True, False])
def test_word_perplexity_is_that_of_wikitext_in_the_harness(family: str, whole_windows: bool, tmp_path: Path) -> None:
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    model, tokenizer, window = tiny_model(family), tiny_tokenizer(), 33
    text = WORDS * 30
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if whole_windows:  # the harness gives the rest of a text more context than a window that begins there
        text = tokenizer.decode(ids[: len(ids) // (window - 1) * (window - 1)])
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert len(ids) % (window - 1) == 0
    rows = harness._Rows([{"page": text}], ["test"])
    config = {**yaml.safe_load(ROLLING), "dataset_path": "json", "custom_dataset": rows}
    tasks = TaskManager(include_defaults=False).load([config])["tasks"]
    lm = wrapped(model, context=window - 1)
    theirs = evaluate(lm, tasks, bootstrap_iters=0)["results"]["local_wikitext"]
    # The harness begins with a token of its own and scores a context's length of tokens in each window.
    own = torch.tensor([lm.prefix_token_id, *ids])
    loss = nll(model, own, window, window - 1, 5)
    words = len(re.split(r"\s+", text))
    tolerance = 1e-5 if whole_windows else 0.02
    assert math.exp(sum(loss.sums) / words) == pytest.approx(theirs["word_perplexity,none"], rel=tolerance)
    bits = sum(loss.sums) / math.log(2) / len(text.encode())
    assert bits == pytest.approx(theirs["bits_per_byte,none"], rel=tolerance)


# ---- the model in memory


def test_the_weights_that_are_swapped_in_are_scored_and_nothing_is_left_behind(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("gpt2"), tiny_tokenizer()
    tasks = [pair(resolve_task(entry("hellaswag", str(lines(tmp_path / "choice.jsonl", CHOICE))), tmp_path))]
    size, pad = len(tokenizer), tokenizer.pad_token
    state = [(name, id(p), p._version) for name, p in model.named_parameters()]
    own = run_tasks(model, tokenizer, tasks, PROTOCOL)
    generator = torch.Generator().manual_seed(3)
    linears = quantizable(model)
    with swapped(linears, {each.name: torch.randn(each.shape, generator=generator) for each in linears}):
        other = run_tasks(model, tokenizer, tasks, PROTOCOL)
    assert own != other
    assert run_tasks(model, tokenizer, tasks, PROTOCOL) == own
    assert [(name, id(p), p._version) for name, p in model.named_parameters()] == state
    assert (len(tokenizer), tokenizer.pad_token) == (size, pad) and not model.training


def test_the_batch_changes_no_score(tmp_path: Path) -> None:
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    tasks = [pair(resolve_task(entry("hellaswag", str(lines(tmp_path / "choice.jsonl", CHOICE))), tmp_path))]
    found = [run_tasks(model, tokenizer, tasks, Protocol(20, 0, 0, batch, 64)) for batch in (1, 7, 64)]
    assert found[0] == found[1] == found[2] and found[0][0]["n"] == 20


def test_a_text_is_encoded_once_for_all_cells_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lm_eval.models.huggingface import HFLM

    seen: list[str] = []
    own = HFLM.tok_encode

    def counted(self: HFLM, string: str, *given: Any, **named: Any) -> list[int]:
        seen.append(string)
        return own(self, string, *given, **named)

    monkeypatch.setattr(HFLM, "tok_encode", counted)
    model, tokenizer = tiny_model("llama"), tiny_tokenizer()
    tasks = [pair(resolve_task(entry("hellaswag", str(lines(tmp_path / "choice.jsonl", CHOICE))), tmp_path))]
    protocol = Protocol(20, 0, 0, 16, 64)
    first = run_tasks(model, tokenizer, tasks, protocol)
    assert len(seen) == len(set(seen)) > 20
    seen.clear()
    assert run_tasks(model, tokenizer, tasks, protocol) == first
    assert not seen
    monkeypatch.setattr(harness, "KEPT_TEXTS", 5)
    assert run_tasks(model, tiny_tokenizer(), tasks, protocol) == first
    assert len(seen) > 20


# ---- real questions

REAL = {
    "lambada": "lambada_openai", "hellaswag": "hellaswag_val_1000", "arc_easy": "arc_easy", "boolq": "boolq",
    "arc_challenge": "arc_challenge", "copa": "copa", "openbookqa": "openbook_qa", "social_iqa": "social_iqa_valid",
    "wsc273": "winograd_wsc",
}  # fmt: skip


@pytest.mark.skipif(not EVAL.is_dir(), reason=f"{EVAL} is not on this machine")
def test_real_questions_on_a_model_of_the_zoo() -> None:
    location = {"pretrained": str(ZOO / "llama-0.4m"), "revision": None}
    tasks = [resolve_task(entry(name, str(EVAL / f"{file}.jsonl")), EVAL) for name, file in REAL.items()]
    protocol = Protocol(limit=40, fewshot=0, seed=0, batch=16, context=256)
    records = run_tasks(load_model(location), load_tokenizer(location), [pair(task) for task in tasks], protocol)
    assert [record["name"] for record in records] == list(REAL)
    assert all(record["n"] == 40 and 0 <= record["accuracy"] <= 0.9 for record in records)
