"""Every mistake in params.yaml, a study or its texts and models is one line that says where it is and what to do."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from bitlaw.cli.main import main
from projects import Project

Say = Callable[[], str]


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path / "p")


@pytest.fixture
def say(project: Project, capsys: pytest.CaptureFixture[str]) -> Say:
    """Return a function that plans the project's study and returns the complaint about it."""

    def plan() -> str:
        code = main(["plan", "--root", str(project.root)])
        out, err = capsys.readouterr()
        assert (code, out) == (2, ""), out
        assert err.startswith("bitlaw: ") and err.count("\n") == 1 and err.endswith("\n"), err
        assert "Traceback" not in err
        assert not (project.root / "results").exists()
        return err.removeprefix("bitlaw: ").rstrip("\n")

    return plan


STUDY = "study: small\n"
CASES = {
    # names
    "study: smal": "params.yaml:1: study: unknown study 'smal'; did you mean 'small'?",
    STUDY + "evaluatoin: {}": "params.yaml:2: evaluatoin: unknown key 'evaluatoin'; did you mean 'evaluation'?",
    STUDY + "evaluation:\n  windw: 3": "params.yaml:3: evaluation.windw: unknown key 'windw'; did you mean 'window'?",
    STUDY + "formats:\n- int4_b64\n- itn4_b64": "params.yaml:4: formats[1]: unknown number format 'itn4_b64'; "
    "did you mean 'int4_b64'?",
    STUDY + "methods: [rtn, GTPQ]": "params.yaml:2: methods[1]: unknown method 'GTPQ'; did you mean 'gptq'?",
    STUDY + "methods: [{name: gptq, dampin: 1}]": "params.yaml:2: methods[0].dampin: unknown key 'dampin'; "
    "did you mean 'damping'?",
    STUDY + "laws: [kummar]": "params.yaml:2: laws[0]: unknown law 'kummar'; did you mean 'kumar'?",
    STUDY + "laws: [{name: kumar, text: word}]": "params.yaml:2: laws[0].text: unknown text 'word'; "
    "did you mean 'words'?",
    STUDY + "models: [{source: zo}]": "params.yaml:2: models[0]: unknown model source 'zo'; did you mean 'zoo'?",
    STUDY + "models: [zooo]": "params.yaml:2: models[0]: unknown model source 'zooo'; did you mean 'zoo'?",
    STUDY + "models: [{name: a}]": "params.yaml:2: models[0]: the entry must say its 'source', "
    "one of gguf, hub, path, train, zoo",
    STUDY + "models: [{source: zoo, name: gpt2-0.2m}]": "params.yaml:2: models[0]: unknown zoo model 'gpt2-0.2m'; "
    "did you mean 'gpt2-0.4m'?",
    STUDY + "models: [{source: path, path: x, nam: y}]": "params.yaml:2: models[0].nam: unknown key 'nam'; "
    "did you mean 'name'?",
    STUDY + "evaluation: {text: pydocs}": "params.yaml:2: evaluation.text: unknown text source 'pydocs'; "
    "did you mean 'pydoc'?",
    STUDY + "evaluation: {dtype: float23}": "params.yaml:2: evaluation.dtype: unknown dtype 'float23'; "
    "did you mean 'float32'?",
    STUDY + "evaluation: [{text: words.txt}]": "params.yaml:2: evaluation[0].text: unknown text source 'words.txt'; "
    "valid: dataset, file, pydoc, stdlib",
    STUDY + "evaluation:\n- text: pydoc\n- windw: 3": "params.yaml:4: evaluation[1].windw: unknown key 'windw'; "
    "did you mean 'window'?",
    STUDY + "evaluation: [pydoc]": 'params.yaml:2: evaluation[0]: must be `key: value` pairs, not "pydoc"',
    STUDY + "evaluation: []": "params.yaml:2: evaluation: the list is empty",
    STUDY + "evaluation: [{stride: 300}]": "params.yaml:2: evaluation[0].stride: must be at most the window, 256, "
    "not 300: tokens between windows would not count",
    STUDY + "evaluation: {text: {source: file, path: nowhere.txt}}": "params.yaml:2: evaluation.text: nowhere.txt: "
    "no such text file; looked for ROOT/nowhere.txt",
    STUDY + "evaluation: [{text: {source: file, path: words.txt}}, {text: {source: file, path: no.txt}}]": (
        "params.yaml:2: evaluation[1].text: no.txt: no such text file; looked for ROOT/no.txt"
    ),
    STUDY + "evaluation: [{text: {source: file, path: words.txt}}, {text: {source: file, path: words.txt}, window: 9, "
    "stride: 9}]": "params.yaml:2: evaluation[1]: two evaluations are named 'words'; give one another `name`",
    # zero-shot tasks
    STUDY + "tasks: [helaswag]": "params.yaml:2: tasks[0]: unknown task of lm-evaluation-harness 'helaswag'; "
    "did you mean 'hellaswag'?",
    STUDY + "tasks:\n- piqa\n- lambada": "params.yaml:4: tasks[1]: 'lambada' reads a file: "
    "say {task: lambada, data: FILE}, or name a task of the harness",
    STUDY + "tasks: {nmes: [piqa]}": "params.yaml:2: tasks.nmes: unknown key 'nmes'; did you mean 'names'?",
    STUDY + "tasks: {names: [{task: piqa, dta: x}]}": "params.yaml:2: tasks.names[0].dta: unknown key 'dta'; "
    "did you mean 'data'?",
    STUDY + "tasks: [{task: piqa, dta: x}]": "params.yaml:2: tasks[0].dta: unknown key 'dta'; did you mean 'data'?",
    STUDY + "tasks: [3]": "params.yaml:2: tasks[0]: must be `key: value` pairs, not 3",
    STUDY + "tasks: piqa": 'params.yaml:2: tasks: must be `key: value` pairs, not "piqa"',
    STUDY + "tasks: {limit: 0}": "params.yaml:2: tasks.limit: must be at least 1, not 0",
    STUDY + "tasks: [{task: piqa, data: no.jsonl}]": "params.yaml:2: tasks[0]: no.jsonl: no such data file; "
    "looked for ROOT/no.jsonl",
    STUDY + "tasks: [{task: piq, data: words.txt}]": "params.yaml:2: tasks[0]: no task 'piq' for a file of yours; "
    "did you mean 'piqa'? Or give the path of a YAML file with the settings of a task",
    STUDY + "tasks: [no.yaml]": "params.yaml:2: tasks[0]: no.yaml: no such task file; looked for ROOT/no.yaml",
    STUDY + "tasks: [piqa, {task: piqa, data: words.txt}]": "params.yaml:2: tasks[1]: two tasks are named 'piqa'",
    # types and ranges
    STUDY + "formats: int4_b64": 'params.yaml:2: formats: must be a list, not "int4_b64"',
    STUDY + "formats:": "params.yaml:2: formats: must be a list, not empty",
    STUDY + "formats: [4]": "params.yaml:2: formats[0]: must be text, not 4",
    STUDY + "evaluation: 3": "params.yaml:2: evaluation: must be `key: value` pairs, not 3",
    STUDY + "evaluation: {window: many}": 'params.yaml:2: evaluation.window: must be a whole number, not "many"',
    STUDY + "evaluation: {window: 2.5}": "params.yaml:2: evaluation.window: must be a whole number, not 2.5",
    STUDY + "evaluation: {window: -3}": "params.yaml:2: evaluation.window: must be at least 2, not -3",
    STUDY + "evaluation: {stride: 300}": "params.yaml:2: evaluation.stride: must be at most the window, 32, not 300: "
    "tokens between windows would not count",
    STUDY + "evaluation: {max_tokens: -1}": "params.yaml:2: evaluation.max_tokens: must be at least 2, not -1",
    STUDY + "calibration: {samples: 0}": "params.yaml:2: calibration.samples: must be at least 1, not 0",
    STUDY + "calibration: {seed: -1}": "params.yaml:2: calibration.seed: must be at least 0, not -1",
    STUDY + "seed: -1": "params.yaml:2: seed: must be at least 0, not -1",
    STUDY + "bootstraps: 0": "params.yaml:2: bootstraps: must be at least 1, not 0",
    STUDY + "methods: [{name: gptq, whole_block: true, act_order: true}]": "params.yaml:2: methods[0]: "
    "whole_block needs act_order: false, for it rounds the columns of a block together",
    STUDY + "methods: [{name: gptq, damping: -1}]": "params.yaml:2: methods[0].damping: must be greater than 0.0, "
    "not -1",
    STUDY + "methods: [{name: gptq, damping: .nan}]": "params.yaml:2: methods[0].damping: must be a finite number, "
    "not NaN",
    STUDY + "models: []": "params.yaml:2: models: the list is empty",
    STUDY + "models: [3]": "params.yaml:2: models[0]: must be `key: value` pairs, not 3",
    STUDY + "models: [{source: path}]": "params.yaml:2: models[0]: 'path' is missing",
    STUDY + "models: [{source: path, pat: x}]": "params.yaml:2: models[0]: 'path' is missing",
    STUDY + "evaluation: {text: file}": "params.yaml:2: evaluation.text: 'path' is missing",
    STUDY + "models: [{source: hub, repo: a/b, revision: main}]": "params.yaml:2: models[0].revision: "
    "revision 'main' is a branch that moves; give a commit or a tag",
    # twice
    STUDY + "formats: [int4_b64, int4_b64]": "params.yaml:2: formats[1]: 'int4_b64' is there twice",
    STUDY + "formats: ['int{2..4}_row', int8_row, 'int{4,5}_row']": (
        "params.yaml:2: formats[2]: 'int4_row' is there twice"
    ),
    STUDY + "formats: ['int{2_row']": "params.yaml:2: formats[0]: 'int{2_row' has braces that do not pair",
    STUDY + "methods: [rtn, rtn]": "params.yaml:2: methods[1]: 'rtn' with these settings is there twice",
    STUDY + "laws: [kumar, {name: kumar, starts: 2}]": "params.yaml:2: laws[1]: 'kumar' is there twice",
    STUDY + "models: [{source: zoo, name: gpt2-0.1m}, {source: zoo, name: 'gpt2-*'}]": "params.yaml:2: models[1]: "
    "two models are named 'gpt2-0.1m'; give one another name",
    STUDY + "models: [{source: path, path: data/zoo/gpt2-0.1m, name: a/b}]": "params.yaml:2: models[0]: "
    "'a/b' can't name a model: letters, digits, '.', '_' and '-' only",
    STUDY + "methods: []": "params.yaml:2: methods: formats need a method to round to them, say `methods: [rtn]`",
    # YAML
    STUDY + "evaluation:\n\twindow: 3": "params.yaml:3: malformed YAML: there is a tab; indent with blanks",
    STUDY + "formats: [\n": "params.yaml:3: malformed YAML: the bracket opened above is not closed, "
    "or a comma is missing",
    STUDY + "formats: [int4_b64\nseed: 3": "params.yaml:3: malformed YAML: the bracket opened in line 2 is not closed, "
    "or a comma is missing",
    STUDY + "formats: []\nformats: []": "params.yaml:3: the key 'formats' is there twice",
    STUDY + "evaluation: {window: 3, window: 4}": "params.yaml:2: the key 'window' is there twice",
    STUDY + "title: a: b": "params.yaml:2: malformed YAML: a ':' where none can be; put the value in quotes, "
    "or mend the indentation",
    STUDY + "title\nseed: 3": "params.yaml:3: malformed YAML: a ':' is missing after the key",
    STUDY + "models: *none": "params.yaml:2: malformed YAML: found undefined alias 'none'",
    "study: {{small}}": "params.yaml:1: malformed YAML: a key must be a plain word; put text with braces or brackets "
    "in quotes",
    STUDY + "4: 5": "params.yaml:2: [4]: a key must be text",
    "study: a\n---\nstudy: b": "params.yaml:2: malformed YAML: but found another document",
    "- study": "params.yaml:1: the file must hold `key: value` lines",
    "": "params.yaml: study: say which study to run: `study: NAME`; there are: small",
    "study: 4": "params.yaml:1: study: say which study to run: `study: NAME`; there are: small",
    "stduy: small": "params.yaml: study: say which study to run: `study: NAME`; there are: small",
    # texts
    STUDY + "evaluation: {text: {source: file, path: no.txt}}": "params.yaml:2: evaluation.text: no.txt: "
    "no such text file; looked for ROOT/no.txt",
    STUDY + "calibration: {text: {source: file, path: studies}}": "params.yaml:2: calibration.text: studies: "
    "no such text file; looked for ROOT/studies",
}


@pytest.mark.parametrize("text", CASES)
def test_params(text: str, project: Project, say: Say) -> None:
    project.params(text)
    assert say() == CASES[text].replace("ROOT", str(project.root))


def test_a_mistake_in_the_study_is_placed_there(project: Project, say: Say) -> None:
    project.params(STUDY + "evaluation: {window: 40}\n")  # the same section is in both files
    file = project.root / "studies" / "small.yaml"
    file.write_text(file.read_text().replace("stride: 31", "strid: 31"))
    line = 1 + file.read_text().splitlines().index("  strid: 31")
    assert say() == f"studies/small.yaml:{line}: evaluation.strid: unknown key 'strid'; did you mean 'stride'?"


def test_a_mistake_that_came_through_an_anchor_is_placed_at_the_anchor(project: Project, say: Say) -> None:
    project.params(
        STUDY + "models:\n- &a\n  source: path\n  path: data/zoo/gpt2-0.1m\n  famly: x\n- {<<: *a, name: other}\n"
    )
    assert say() == "params.yaml:6: models[0].famly: unknown key 'famly'; did you mean 'family'?"
    project.params(STUDY + "calibration: &a {sampels: 3}\nevaluation: {<<: *a, window: 32}\n")
    assert say() == "params.yaml:2: calibration.sampels: unknown key 'sampels'; did you mean 'samples'?"


def test_an_empty_study_needs_models(project: Project, say: Say) -> None:
    (project.root / "studies" / "small.yaml").write_text("")
    assert say() == "studies/small.yaml: 'models' is missing"


def test_params_that_are_not_there(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    (project.root / "params.yaml").unlink()
    assert main(["plan", "--root", str(project.root)]) == 2
    message = capsys.readouterr().err
    assert message == f"bitlaw: {project.root}: no params.yaml here or in a folder above; go to the project's folder\n"
    assert main(["plan", "--root", str(project.root / "nowhere")]) == 2
    assert capsys.readouterr().err == f"bitlaw: {project.root / 'nowhere'}: no such folder\n"
    project.params(STUDY)
    assert main(["plan", "--root", str(project.root / "data"), "--study", "smal"]) == 2
    assert capsys.readouterr().err == "bitlaw: --study: unknown study 'smal'; did you mean 'small'?\n"


def test_params_that_are_not_text(project: Project, say: Say) -> None:
    (project.root / "params.yaml").write_bytes(b"study: caf\xe9\n")
    assert say() == "params.yaml: not UTF-8 text"
    (project.root / "params.yaml").write_bytes(b"study: \x00\n")
    assert say().startswith("params.yaml: malformed YAML: ")


def test_params_may_begin_with_a_byte_order_mark(project: Project) -> None:
    (project.root / "params.yaml").write_bytes(b"\xef\xbb\xbfstudy: small\n")
    assert project.plan().missing


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the text is empty"),
        (b" \n\r\n\t", "the text is empty"),
        (b"caf\xe9", "own.txt: not UTF-8 at byte 3; convert it to UTF-8"),
        ("text".encode("utf-16"), "own.txt: not UTF-8 at byte 0; convert it to UTF-8"),
    ],
)
def test_texts_that_cannot_be_read(project: Project, say: Say, data: bytes, message: str) -> None:
    (project.root / "own.txt").write_bytes(data)
    project.params(STUDY + "evaluation:\n  text:\n    source: file\n    path: own.txt\n")
    said = say()
    assert said.startswith("params.yaml:3: evaluation.text: own")
    assert said.endswith(message)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "no config.json there: not a Hugging Face model folder"),
        (
            {"model_type": "bert", "architectures": ["BertForMaskedLM"]},
            "not a causal language model: .*BertForMaskedLM",
        ),
        (
            {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True},
            "not a causal language model: .*T5ForConditionalGeneration",
        ),
        ({"architectures": ["GPT2LMHeadModel"], "quantization_config": {}}, "the model is quantized already"),
    ],
)
def test_models_that_cannot_be_used(project: Project, say: Say, config: object, message: str) -> None:
    folder = project.root / "own"
    project.params(STUDY + "models:\n- {source: zoo, name: gpt2-0.1m}\n- {source: path, path: own}\n")
    assert say() == f"params.yaml:4: models[1]: {folder}: no such folder"
    folder.mkdir()
    (folder / "model.safetensors").touch()
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    assert re.search(rf"^params.yaml:4: models\[1\]: {re.escape(str(folder))}.*: {message}", say())
