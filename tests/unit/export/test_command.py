"""bitlaw export."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bitlaw.cli.main import main
from projects import Project

GPTQ = [{"name": "gptq", "damping": 0.01}, {"name": "gptq", "damping": 0.05}]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "p", formats=["int4_b64", "mxint4_b32"], methods=["rtn", *GPTQ])
    monkeypatch.chdir(project.root)
    return project


def test_what_is_missing_is_made_and_exported(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "gpt2-0.1m", "int4_b64", "rtn", "--to", "out/a"]) == 0
    assert "wrote out/a: ordinary weights" in capsys.readouterr().out
    made = {path.split("/")[0] for path in project.results()}
    assert made == {"model", "quantize"}  # no more than it needs
    said = json.loads((project.root / "out" / "a" / "quantization.json").read_text())
    assert said["model"] == "gpt2-0.1m" and said["source"]["source"] == "folder"
    quantized = next(path for path in project.results() if path.startswith("quantize"))
    assert said["key"] in quantized
    before = project.results()
    assert main(["export", "gpt2-0.1m", "int4_b64", "rtn", "--to", "out/b"]) == 0
    assert project.results() == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gpt2-0.1", "int4_b64", "rtn"], "unknown model of the study 'gpt2-0.1'; did you mean 'gpt2-0.1m'?"),
        (["gpt2-0.1m", "int44_b64", "rtn"], "unknown number format 'int44_b64'"),
        (["gpt2-0.1m", "int3_b64", "rtn"], "unknown format of the study 'int3_b64'; did you mean 'int4_b64'?"),
        (["gpt2-0.1m", "int4_b64", "rtm"], "unknown method of the study 'rtm'; did you mean 'rtn'?"),
        (["gpt2-0.1m", "int4_b64", "gptq"], '2 cells of the study have these settings; choose one with {"damping"'),
        (
            ["gpt2-0.1m", "int4_b64", "gptq", "--settings", '{"dampign": 1}'],
            "--settings: unknown setting of gptq 'dampign'; did you mean 'damping'?",
        ),
        (["gpt2-0.1m", "int4_b64", "gptq", "--settings", '{"damping": 1}'], "no cell of the study has these settings"),
        (["gpt2-0.1m", "int4_b64", "gptq", "--settings", "{"], "--settings: not JSON"),
        (["gpt2-0.1m", "int4_b64", "gptq", "--settings", "[]"], "--settings: not a JSON object"),
    ],
)
def test_mistakes_are_one_line(
    project: Project, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["export", *arguments, "--to", "out"]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
    assert not (project.root / "out").exists()


def test_a_cell_of_gptq_is_what_the_study_evaluated(project: Project) -> None:
    pytest.importorskip("compressed_tensors")
    from transformers import AutoModelForCausalLM

    from bitlaw.artifacts import read_tensors
    from bitlaw.formats.grammar import parse
    from bitlaw.methods.stored import stored_linears
    from bitlaw.models.linears import quantizable

    project.study(models=[{"source": "zoo", "name": "opt-0.1m"}], formats=["int4_b64"], methods=GPTQ)
    assert main(["export", "opt-0.1m", "int4_b64", "gptq", "--settings", '{"damping": 0.05}', "--to", "out"]) == 0
    (made,) = [path for path in project.results() if path.startswith("quantize")]
    loaded = AutoModelForCausalLM.from_pretrained("out")
    loaded(loaded.dummy_inputs["input_ids"])  # unpacked by its first use
    linears = {one.name: one for one in quantizable(loaded)}
    shapes = {name: one.shape for name, one in linears.items()}
    tensors, _ = read_tensors(project.root / "results" / made)
    for name, stored in stored_linears(tensors, parse("int4_b64"), shapes).items():
        assert bool((linears[name].weight() == stored.weight()).all())


def test_settings_choose_a_cell(project: Project) -> None:
    from bitlaw.export.cell import find_cell

    cell = find_cell(project.plan().grid, "gpt2-0.1m", "int4_b64", "gptq", {"damping": 0.05})
    assert cell.spec["settings"]["damping"] == 0.05 and cell.spec["format"] == "int4_b64"
