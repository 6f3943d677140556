"""Tasks of a study: what is in their keys, what is refused, what the stage writes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bitlaw.artifacts import read_json
from bitlaw.errors import UserError
from bitlaw.evaluation import harness
from bitlaw.evaluation.harness import mean_accuracy, run_tasks
from bitlaw.evaluation.task_files import SHIPPED, Task, harness_version, read_rows, resolve_task
from bitlaw.stage import Header, Job
from bitlaw.stages import STAGES
from projects import Project
from tiny import WORDS, tiny_model, tiny_tokenizer
from zeroshot import CHOICE, LAST, PROTOCOL, ROLLING, entry, lines, pair

pytestmark = pytest.mark.usefixtures("offline")


def stage(tmp_path: Path, model: Path, tasks: list[Task], **changes: Any) -> Any:
    spec = {
        "tasks": [task.spec() for task in tasks], "limit": 12, "fewshot": 0, "seed": 0, "batch": 4, "dtype": "float32",
        "harness": harness_version(), **changes,
    }  # fmt: skip
    described = tmp_path / "model.json"
    location = {"pretrained": str(model), "revision": None, "trust_remote_code": False}
    header = Header("model", "0" * 32, {"source": {"source": "folder", "files": {}}}, {}, "")
    STAGES["model"].run(Job(header, {}, described, tmp_path / "payload", {"model": location}))
    out = tmp_path / "zeroshot.json"
    hints = {"model": location, "tasks": [task.hints() for task in tasks]}
    job = Job(Header("zeroshot", "1" * 32, spec, {}, ""), {"model": (described,)}, out, tmp_path / "payload", hints)
    STAGES["zeroshot"].run(job)
    return read_json(out)


def test_the_stage_writes_each_task_and_their_mean(
    tmp_path: Path, saved: Callable[[str], Path], capfd: pytest.CaptureFixture[str]
) -> None:
    tasks = [
        resolve_task(entry("hellaswag", str(lines(tmp_path / "choice.jsonl", CHOICE))), tmp_path),
        resolve_task(entry("lambada", str(lines(tmp_path / "last.jsonl", LAST))), tmp_path),
    ]
    model = saved("gpt2")
    capfd.readouterr()
    result = stage(tmp_path, model, tasks)
    assert [(record["name"], record["n"]) for record in result["tasks"]] == [("hellaswag", 12), ("lambada", 12)]
    said = "".join(capfd.readouterr())
    assert not said.strip(), "a job's log holds what went wrong, not how far it is"
    mean, stderr = mean_accuracy(result["tasks"])
    assert (result["accuracy"], result["accuracy_stderr"]) == (mean, stderr)
    with pytest.raises(UserError, match=r"planned with lm-evaluation-harness 0\.1\.0, but here is"):
        stage(tmp_path, saved("gpt2"), tasks, harness="0.1.0")
    lines(tmp_path / "last.jsonl", LAST[1:])
    harness._kept.clear()
    with pytest.raises(UserError, match=r"last.jsonl: the data has changed since this was planned"):
        stage(tmp_path, saved("gpt2"), tasks)


# ---- what a study says


def test_the_content_of_files_is_in_the_key_and_their_place_is_not(tmp_path: Path) -> None:
    first = lines(tmp_path / "a.jsonl", CHOICE)
    second = lines(tmp_path / "b.jsonl", CHOICE)
    one, two = (resolve_task(entry("hellaswag", str(path)), tmp_path) for path in (first, second))
    assert one.spec() == two.spec() and one.hints() != two.hints()
    assert one.spec()["data"] == hashlib.sha256(first.read_bytes()).hexdigest()
    assert resolve_task(entry("hellaswag"), tmp_path).spec() == {"name": "hellaswag", "settings": None, "data": None}
    own = tmp_path / "mine.yaml"
    own.write_text((SHIPPED / "hellaswag.yaml").read_text().replace("task: hellaswag", "task: mine"))
    mine = resolve_task(entry("mine.yaml", "a.jsonl"), tmp_path)
    assert mine.name == "mine" and mine.spec()["settings"] == hashlib.sha256(own.read_bytes()).hexdigest()


def test_a_task_of_the_user(tmp_path: Path) -> None:
    lines(tmp_path / "a.jsonl", [{"ask": row["query"], "say": row["choices"], "right": row["gold"]} for row in CHOICE])
    settings = {
        "output_type": "multiple_choice", "validation_split": "validation", "doc_to_text": "{{ask}}",
        "doc_to_target": "right", "doc_to_choice": "say", "metric_list": [{"metric": "acc"}],
    }  # fmt: skip
    (tmp_path / "mine.yml").write_text(yaml.safe_dump(settings))
    task = resolve_task(entry("mine.yml", "a.jsonl"), tmp_path)
    (record,) = run_tasks(tiny_model("gpt2"), tiny_tokenizer(), [pair(task)], PROTOCOL)
    assert (record["name"], record["n"]) == ("mine", len(CHOICE)) and 0 < record["accuracy"] < 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("doc_to_text: !function utils.text", "'!function' runs code; write the prompts as templates"),
        ("include: other.yaml\noutput_type: multiple_choice", "'include' leads to another file"),
        ("doc_to_text: a", "no settings of a task"),
        ("a: [", "malformed YAML"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(UserError, match=f"mine.yaml: {message}"):
        resolve_task(entry("mine.yaml"), tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "there are no questions in it"),
        ('{"a": 1}\n{"a": \n', ":2: the line is no JSON object"),
        ('{"a": 1}\n\n[1]\n', ":3: the line is no JSON object"),
    ],
)
def test_data_that_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        read_rows(path, hashlib.sha256(content.encode()).hexdigest())


def test_tasks_that_cannot_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    model, tokenizer = tiny_model("gpt2"), tiny_tokenizer()
    with pytest.raises(UserError, match=r"task piqa: its data can't be loaded .*give the data as JSON lines"):
        run_tasks(model, tokenizer, [pair(resolve_task(entry("piqa"), tmp_path))], PROTOCOL)
    wrong = resolve_task(entry("piqa", str(lines(tmp_path / "choice.jsonl", CHOICE))), tmp_path)
    with pytest.raises(UserError, match="task piqa: its settings do not fit its data"):
        run_tasks(model, tokenizer, [pair(wrong)], PROTOCOL)
    (tmp_path / "page.yaml").write_text(ROLLING)
    page = resolve_task(entry("page.yaml", str(lines(tmp_path / "page.jsonl", [{"page": WORDS}]))), tmp_path)
    with pytest.raises(UserError, match="task local_wikitext: it has no accuracy, only word_perplexity, bits_per_byte"):
        run_tasks(model, tokenizer, [pair(page)], PROTOCOL)


def test_cells_of_a_study_have_their_tasks(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    lines(project.root / "choice.jsonl", CHOICE)
    project.study(tasks=[{"task": "hellaswag", "data": "choice.jsonl"}])
    scored = [artifact for artifact in project.artifacts() if artifact.stage == "zeroshot"]
    assert [set(artifact.parents) for artifact in scored] == [{"model"}, *[{"model", "quantized"}] * 2]
    assert all(artifact.spec["harness"] == harness_version() for artifact in scored)
    table = project.plan().grid.table
    assert [row["zeroshot"] for row in table.spec["rows"]] == [0, 1, 2]
    assert [artifact.key for artifact in table.parents["zeroshot"]] == [artifact.key for artifact in scored]
    before = {artifact.key for artifact in project.artifacts()}
    lines(project.root / "choice.jsonl", CHOICE[1:])
    changed = {artifact.stage for artifact in project.artifacts() if artifact.key not in before}
    assert changed == {"zeroshot", "table", "laws", "report"}
    project.study(tasks={"names": [{"task": "hellaswag", "data": "choice.jsonl"}], "limit": 5})
    assert {a.spec["limit"] for a in project.artifacts() if a.stage == "zeroshot"} == {5}
