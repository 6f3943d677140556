"""From a study to its artifacts and their keys."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from bitlaw.errors import UserError
from projects import ZOO, Project, counts

HEAVY = "torch transformers tokenizers pandas pyarrow scipy sklearn numpy datasets huggingface_hub altair snakemake dvc"


def keys(project: Project) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for artifact in project.artifacts():
        found.setdefault(artifact.stage, []).append(artifact.key)
    return {stage: sorted(each) for stage, each in found.items()}


def test_planning_imports_no_heavy_library(tmp_path: Path) -> None:
    Project(
        tmp_path / "p", calibration={"text": "stdlib"}, evaluation={"text": "pydoc"}, laws=["kumar", "power_offset"]
    )
    code = (
        "import sys; from bitlaw.cli.main import main\n"
        f"assert main(['plan', '--root', {str(tmp_path / 'p')!r}]) == 0\n"
        f"loaded = sorted(set({HEAVY!r}.split()) & set(sys.modules))\n"
        "assert not loaded, loaded"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "evaluate" in done.stdout


# ---- the grid


def test_counts(tmp_path: Path) -> None:
    models = [{"source": "zoo", "name": ["gpt2-0.1m", "opt-0.1m"]}, {"source": "zoo", "name": "llama-0.1m"}]
    project = Project(tmp_path / "p", models=models, formats=["int4_b64", "int3_b64"], laws=["kumar"])
    needs = {stage: count[0] for stage, count in counts(project).items()}
    # 3 models; 2 formats x 2 methods; one baseline a model more to evaluate.
    made = {"model": 3, "calibrate": 3, "factorize": 3, "quantize": 12, "evaluate": 15}
    assert needs == {**made, "table": 1, "laws": 1, "report": 1}
    assert list(needs) == [*made, "table", "laws", "report"]
    assert all(count == (count[0], 0, count[0]) for count in counts(project).values())
    assert len(project.plan().missing) == 39


def test_nothing_is_calibrated_for_nobody(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", methods=["rtn"], calibration={"text": {"source": "file", "path": "absent.txt"}})
    assert not {"calibrate", "factorize"} & set(counts(project))
    project.study(formats=[], methods=["gptq"], calibration={"text": {"source": "file", "path": "absent.txt"}})
    assert {stage: count[0] for stage, count in counts(project).items()} == {
        "model": 1,
        "evaluate": 1,
        "table": 1,
        "laws": 1,
        "report": 1,
    }


def test_parents_come_before_children(tmp_path: Path) -> None:
    seen: set[str] = set()
    for artifact in Project(tmp_path / "p", formats=["int4_b64", "int3_b64"]).artifacts():
        assert all(parent.path in seen for group in artifact.parents.values() for parent in group)
        seen.add(artifact.path)


def test_each_method_has_the_parents_it_needs(tmp_path: Path) -> None:
    by_label = {(a.stage, a.label): a for a in Project(tmp_path / "p").artifacts()}
    rtn, gptq = (by_label["quantize", f"gpt2-0.1m/int4_b64-{method}"] for method in ("rtn", "gptq"))
    assert set(rtn.parents) == {"model"}
    assert set(gptq.parents) == {"model", "factors"}
    (factors,) = gptq.parents["factors"]
    assert (factors.stage, factors.spec) == ("factorize", {"damping": 0.01, "act_order": False})
    assert set(factors.parents) == {"model", "calibration"}
    assert factors.parents["calibration"] == (by_label["calibrate", "gpt2-0.1m/words"],)
    assert gptq.spec["settings"] == {
        "damping": 0.01,
        "block_columns": 128,
        "act_order": False,
        "static_groups": False,
        "whole_block": False,
        "sequential": False,
    }
    assert set(by_label["evaluate", "gpt2-0.1m/unquantized"].parents) == {"model"}
    assert by_label["evaluate", "gpt2-0.1m/int4_b64-rtn"].parents["quantized"] == (rtn,)


def test_factors_are_shared_by_all_that_damp_and_order_alike(tmp_path: Path) -> None:
    methods = ["gptq", {"name": "gptq", "static_groups": True}, {"name": "gptq", "act_order": True}, "awq"]
    project = Project(tmp_path / "p", formats=["int4_b64", "int3_b64"], methods=methods)
    needs = {stage: count[0] for stage, count in counts(project).items()}
    assert (needs["calibrate"], needs["factorize"], needs["quantize"]) == (1, 2, 8)
    specs = [artifact.spec for artifact in project.artifacts() if artifact.stage == "factorize"]
    assert specs == [{"damping": 0.01, "act_order": act_order} for act_order in (False, True)]
    awq = [a for a in project.artifacts() if a.stage == "quantize" and a.spec["method"] == "awq"]
    assert all(set(artifact.parents) == {"model", "calibration"} for artifact in awq)
    assert {row["calibration_text"] for row in project.plan().grid.table.spec["rows"][1:]} == {"words"}


def test_a_method_that_reads_the_text_itself_has_it_in_its_key(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", methods=[{"name": "gptq", "sequential": True}])
    assert not {"calibrate", "factorize"} & set(counts(project))
    quantized = next(a for a in project.artifacts() if a.stage == "quantize")
    assert set(quantized.parents) == {"model"}
    text = Path(quantized.hints["text"])
    assert quantized.spec["calibration"] == {"text": {"sha256": text.stem}, "samples": 2, "length": 32, "seed": 0}
    assert project.plan().grid.table.spec["rows"][1]["calibration_text"] == "words"
    (project.root / "words.txt").write_text("Other words. " * 100)
    changed = next(a for a in project.artifacts() if a.stage == "quantize")
    assert changed.key != quantized.key and changed.spec["settings"] == quantized.spec["settings"]


def test_a_method_that_cannot_round_to_a_format_is_refused(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", formats=["mxint4_b32"], methods=["rtn", {"name": "gptq", "whole_block": True}])
    assert counts(project)["quantize"] == (2, 0, 2)
    project.study(formats=["mxint4_b32", "int4_row"], methods=["rtn", {"name": "gptq", "whole_block": True}])
    with pytest.raises(
        UserError, match=r"^studies/small.yaml:\d+: methods\[1\]: whole_block needs a format with blocks"
    ):
        project.plan()


def test_grids_add_formats_with_methods_of_their_own(tmp_path: Path) -> None:
    grids = [{"formats": ["int{3,4}_b128"], "methods": ["rtn"]}, {"formats": ["int4_b64"], "methods": ["awq"]}]
    project = Project(tmp_path / "p", grids=grids)
    (table,) = (artifact for artifact in project.artifacts() if artifact.stage == "table")
    assert [(row["format"], row["method"]) for row in table.spec["rows"]] == [
        ("unquantized", "none"), ("int4_b64", "rtn"), ("int4_b64", "gptq"),
        ("int3_b128", "rtn"), ("int4_b128", "rtn"), ("int4_b64", "awq"),
    ]  # fmt: skip
    with pytest.raises(UserError, match=r"^studies/small.yaml:\d+: grids: 'int4_b64' by 'gptq' with these settings is"):
        project.study(grids=[{"formats": ["int4_b64"], "methods": ["gptq"]}])
        project.plan()
    with pytest.raises(UserError, match=r"^studies/small.yaml:\d+: grids\[0\]\.methods\[1\]: whole_block needs"):
        project.study(grids=[{"formats": ["int4_row"], "methods": ["rtn", {"name": "gptq", "whole_block": True}]}])
        project.plan()


def test_tasks_can_be_for_some_formats_alone(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"context": "a b", "continuation": "c"}\n', "utf-8")
    tasks = {"names": [{"task": "lambada", "data": str(tmp_path / "q.jsonl")}]}
    project = Project(tmp_path / "p", formats=["int4_b64", "int3_b64"], tasks=tasks)
    every = counts(project)["zeroshot"]
    keys = {artifact.key for artifact in project.artifacts() if artifact.stage == "zeroshot"}
    project.study(formats=["int4_b64", "int3_b64"], tasks={**tasks, "formats": ["int3_b64"]})
    some = {artifact.key for artifact in project.artifacts() if artifact.stage == "zeroshot"}
    assert (every[0], len(some)) == (5, 3)
    assert some < keys  # what is tried does not change what is found


def test_rows_of_the_table_stand_in_the_order_of_their_cells(tmp_path: Path) -> None:
    table = Project(tmp_path / "p").plan().grid.table
    labels = [f"{row['model']}/{row['format']}-{row['method']}" for row in table.spec["rows"]]
    assert labels == ["gpt2-0.1m/unquantized-none", "gpt2-0.1m/int4_b64-rtn", "gpt2-0.1m/int4_b64-gptq"]
    assert [cell.label for cell in table.parents["cells"]] == [label.removesuffix("-none") for label in labels]
    assert [row["calibration_text"] for row in table.spec["rows"]] == [None, None, "words"]
    assert {row["n_tokens"] for row in table.spec["rows"]} == {430014464}


def test_names_of_formats_are_made_canonical(tmp_path: Path) -> None:
    from bitlaw.formats.grammar import known_names, parse

    assert all(str(parse(name)) == name for name in known_names())
    project = Project(tmp_path / "p")
    project.study(formats=["int4_b64", "int4_b64"])
    with pytest.raises(UserError, match=r"small.yaml:\d+: formats\[1\]: 'int4_b64' is there twice"):
        project.plan()


# ---- keys


def test_keys_do_not_depend_on_where_the_project_lies(tmp_path: Path) -> None:
    here, there = Project(tmp_path / "here"), Project(tmp_path / "some" / "where else")
    assert keys(here) == keys(there)
    assert [a.path for a in here.artifacts()] == [a.path for a in there.artifacts()]
    # What is different is where things are.
    assert here.artifacts()[-4].hints != there.artifacts()[-4].hints


def test_keys_do_not_depend_on_the_source_of_equal_files(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    before = keys(project)
    shutil.copytree(ZOO / "gpt2-0.1m", tmp_path / "mine")
    project.study(models=[{"source": "path", "path": "../mine", "name": "gpt2-0.1m"}])
    after = keys(project)
    assert {stage for stage in after if after[stage] != before[stage]} == {"table", "laws", "report"}  # it has a label


def test_a_renamed_model_keeps_its_keys_and_its_folders_can_be_renamed(tmp_path: Path) -> None:
    project = Project(tmp_path / "p", models=[{"source": "path", "path": "data/zoo/gpt2-0.1m", "name": "old"}])
    before = keys(project)
    project.pretend()
    project.study(models=[{"source": "path", "path": "data/zoo/gpt2-0.1m", "name": "new"}])
    after = keys(project)
    assert {stage for stage in after if after[stage] != before[stage]} == {"table", "laws", "report"}
    for stage in ("model", "calibrate", "factorize", "quantize", "evaluate"):
        (project.root / "results" / stage / "old").rename(project.root / "results" / stage / "new")
    assert {artifact.stage for artifact in project.plan().missing.values()} == {"table", "laws", "report"}


@pytest.mark.parametrize(
    ("changes", "stages"),
    [
        ({"title": "Another"}, {"report"}),
        ({"laws": ["kumar"]}, {"laws", "report"}),
        ({"bootstraps": 11}, {"laws", "report"}),
        ({"seed": 1}, {"laws", "report"}),
        ({"formats": ["int3_b64"]}, {"quantize", "evaluate", "table", "laws", "report"}),
        (
            {"methods": ["rtn", {"name": "gptq", "damping": 0.02}]},
            {"factorize", "quantize", "evaluate", "table", "laws", "report"},
        ),
        (
            {"methods": ["rtn", {"name": "gptq", "static_groups": True}]},
            {"quantize", "evaluate", "table", "laws", "report"},
        ),
    ],
)
def test_a_parameter_changes_what_depends_on_it(tmp_path: Path, changes: dict[str, Any], stages: set[str]) -> None:
    project = Project(tmp_path / "p")
    before = keys(project)
    project.study(**changes)
    after = keys(project)
    assert {stage for stage in after if after[stage] != before[stage]} == stages


def test_a_changed_text_or_seed_changes_what_depends_on_it(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    project.pretend()
    calibration = {"text": {"source": "file", "path": "words.txt"}, "samples": 2, "length": 32, "seed": 1}
    project.study(calibration=calibration)
    missing = [(a.stage, a.label) for a in project.plan().missing.values()]
    cell = "gpt2-0.1m/int4_b64-gptq"
    last = [("table", ""), ("laws", ""), ("report", "")]
    calibrated = [(stage, "gpt2-0.1m/words") for stage in ("calibrate", "factorize")]
    assert missing == [*calibrated, ("quantize", cell), ("evaluate", cell), *last]
    project.study()
    (project.root / "words.txt").write_text("Other words. " * 100)
    rtn = "gpt2-0.1m/int4_b64-rtn"
    assert [(a.stage, a.label) for a in project.plan().missing.values()] == [
        ("evaluate", "gpt2-0.1m/unquantized"),
        ("evaluate", rtn),  # made from the same quantized weights as before
        *calibrated,
        ("quantize", cell),
        ("evaluate", cell),
        *last,
    ]


# ---- the plan


def test_going_back_finds_everything(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    project.pretend()
    assert not project.plan().missing
    project.study(formats=["int4_b64", "int3_b64"])
    assert {a.label for a in project.plan().missing.values()} == {
        "gpt2-0.1m/int3_b64-rtn",
        "gpt2-0.1m/int3_b64-gptq",
        "",
    }
    project.pretend()
    assert not project.plan().missing
    for formats in (["int4_b64"], ["int4_b64", "int3_b64"]):
        project.study(formats=formats)
        assert not project.plan().missing


def test_trained_models_are_looked_for_in_the_results(tmp_path: Path) -> None:
    recipe = {"text": [{"source": "file", "path": "words.txt"}], "tokens": 1000}
    model = {"source": "train", "name": "own", "architecture": "gpt2", "config": {"n_embd": 8}, "recipe": recipe}
    project = Project(tmp_path / "p", models=[model], formats=[], methods=[])
    made, evaluated = project.artifacts()[:2]
    assert (made.stage, evaluated.stage) == ("model", "evaluate")
    assert evaluated.hints["model"]["pretrained"] == str(project.root / made.payload)
    assert "payload" not in evaluated.hints["model"]
    before = made.key
    project.study(models=[{**model, "recipe": {**recipe, "seed": 1}}], formats=[], methods=[])
    assert project.artifacts()[0].key != before


def test_a_label_can_be_a_folder(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    (project.root / "my words: 2.v1.txt").write_text("Some words.")
    project.study(calibration={"text": {"source": "file", "path": "my words: 2.v1.txt"}, "samples": 1})
    (calibrated,) = (a for a in project.artifacts() if a.stage == "calibrate")
    assert calibrated.label == "gpt2-0.1m/my-words-2"


def test_the_microscaling_study_has_the_formats_of_its_paper() -> None:
    from bitlaw.formats import grammar

    repository = Path(__file__).resolve().parents[3]
    entries = yaml.safe_load((repository / "studies" / "mx.yaml").read_text("utf-8"))["formats"]
    formats = [grammar.parse(name) for entry in entries for name in grammar.expand(entry)]
    assert len({(fmt.element.name, fmt.block) for fmt in formats}) == len(formats) == 36
    assert len({fmt.element.name for fmt in formats}) == 12
    assert {fmt.block for fmt in formats} == {32, 64, 128} and {fmt.scale_rule for fmt in formats} == {"floor"}


# ---- several evaluations


def test_several_evaluations_share_the_weights(tmp_path: Path) -> None:
    words = {"source": "file", "path": "words.txt"}
    project = Project(tmp_path / "p")
    one = {artifact.key for artifact in project.artifacts() if artifact.stage not in ("table", "laws", "report")}
    first = {"text": words, "window": 32, "stride": 31, "max_tokens": 200}
    project.study(evaluation=[first])
    assert one < {artifact.key for artifact in project.artifacts()}  # one in a list is that one
    project.study(evaluation=[first, {**first, "name": "short", "window": 16, "stride": 16}])
    needs = {stage: count[0] for stage, count in counts(project).items()}
    assert (needs["quantize"], needs["evaluate"]) == (2, 6)
    assert one < {artifact.key for artifact in project.artifacts()}
    rows = project.plan().grid.table.spec["rows"]
    assert [row["text"] for row in rows] == ["words", "short"] * 3
    assert len({(row["format"], row["method"]) for row in rows}) == 3


def test_the_name_of_an_evaluation_is_in_no_key_but_those_of_the_table(tmp_path: Path) -> None:
    project = Project(tmp_path / "p")
    before = keys(project)
    words = {"source": "file", "path": "words.txt"}
    project.study(evaluation={"text": words, "window": 32, "stride": 31, "max_tokens": 200, "name": "mine"})
    after = keys(project)
    assert {stage for stage in after if after[stage] != before[stage]} == {"table", "laws", "report"}


def test_a_law_may_name_any_of_the_texts(tmp_path: Path) -> None:
    words = {"source": "file", "path": "words.txt"}
    both = [{"text": words, "window": 32, "stride": 32}, {"text": words, "name": "again", "window": 16, "stride": 16}]
    project = Project(tmp_path / "p", evaluation=both, laws=[{"name": "kumar", "text": "again"}])
    assert project.plan().grid.laws
    project.study(evaluation=both, laws=[{"name": "kumar", "text": "agan"}])
    with pytest.raises(UserError, match=r"laws\[0\].text: unknown text 'agan'; did you mean 'again'"):
        project.plan()
