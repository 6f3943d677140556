"""The command line, as somebody meets it who has never used it."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from bitlaw.cli import COMMANDS
from bitlaw.cli.main import main
from bitlaw.cli.schema import params_schema, study_schema
from projects import REPOSITORY, SMALL, Project

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*argv: str) -> tuple[int, str, str]:
        code = main(argv)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    project = Project(tmp_path / "p")
    monkeypatch.chdir(project.root / "data")
    return project


def helped(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as end:
        main(argv)
    assert end.value.code == 0
    return capsys.readouterr().out


def test_help_names_every_command(capsys: pytest.CaptureFixture[str], run: Run) -> None:
    out = helped(capsys, "--help")
    for name in COMMANDS:
        assert f"    {name} " in out
        assert COMMANDS[name].summary in " ".join(out.split())
    assert "snakemake --cores N" in out
    assert run() == (0, out, "")


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    out = helped(capsys, name, "--help")
    command = COMMANDS[name]
    assert out.startswith(f"usage: bitlaw {name}")
    assert command.description in out
    assert len(command.description) > 60
    assert "examples:" in out
    assert f"\n  bitlaw {name}" in out
    assert max(len(line) for line in out.splitlines()) <= 120


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["pln"], "unknown command 'pln'; did you mean 'plan'?"),
        (["xyz"], f"unknown command 'xyz'; valid: {', '.join(list(COMMANDS)[:12])}{', ...' * (len(COMMANDS) > 12)}"),
        (["plan", "--mising"], "plan: unknown argument '--mising'; did you mean '--missing'?"),
        (["--helpp"], "unknown argument '--helpp'; did you mean '--help'?"),
        (["plan", "--study"], "plan: argument --study: expected one argument; see `bitlaw plan --help`"),
        (["make"], "make: the following arguments are required: --plan; see `bitlaw make --help`"),
        (["make", "--pln", "plan.json"], "make: unknown argument '--pln'; did you mean '--plan'?"),
        (["formats", "int44_b64"], "unknown number format 'int44_b64'; did you mean 'int4_b64'?"),
        (
            ["make", "x", "--plan", "/nowhere"],
            "/nowhere: no such plan file; each run writes its own under .bitlaw/plans",
        ),
        (["schema", "--check", "/nowhere"], "/nowhere: out of date; run `bitlaw schema --write` on it"),
        (["summary"], None),
    ],
)
def test_mistakes_are_one_line(project: Project, run: Run, argv: list[str], message: str | None) -> None:
    message = message or f"{project.root}: no results yet; run `snakemake --cores N`"
    assert run(*argv) == (2, "", f"bitlaw: {message}\n")


def test_mistakes_in_a_process_of_its_own(project: Project) -> None:
    project.params("study: small\nformats: [int4_b63]\n")
    for command in ("plan", "run", "summary", "models"):
        done = subprocess.run([sys.executable, "-m", "bitlaw", command], check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("bitlaw: params.yaml:2: formats[0]: ") and done.stderr.count("\n") == 1
    assert not (project.root / "results").exists()


def test_a_bug_is_no_mistake_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def __getattr__(self, name: str) -> Any:
            raise ZeroDivisionError

    monkeypatch.setattr("bitlaw.cli.main.COMMANDS", {"plan": Broken()})
    with pytest.raises(ZeroDivisionError):
        main(["plan"])


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "a.json"), 2, "bitlaw: a.json: no space left on device\n"),
        (PermissionError(errno.EACCES, "Permission denied", "b"), 2, "bitlaw: b: permission denied\n"),
        (KeyboardInterrupt(), 130, "bitlaw: stopped; what was made is kept\n"),
    ],
)
def test_what_the_machine_refuses(
    project: Project, run: Run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, message: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("bitlaw.cli.plan.expand", fail)
    assert run("plan") == (code, "", message)


def test_plan(project: Project, run: Run) -> None:
    code, out, err = run("plan")
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["stage", "needs", "has", "misses"]
    assert ["quantize", "2", "0", "2"] in [line.split() for line in out.splitlines()]
    assert out.splitlines()[-1] == "11 to make: snakemake --cores N"
    assert not (project.root / "results").exists()
    _, out, _ = run("plan", "--missing")
    assert len(out.splitlines()) == 11
    assert all(line.startswith("results/") for line in out.splitlines())
    _, out, _ = run("plan", "--json")
    assert json.loads(out)["evaluate"] == {"needs": 3, "has": 0, "misses": 3}
    project.pretend()
    assert run("plan")[1].splitlines()[-1] == "nothing to do"
    assert run("plan", "--missing")[1] == ""
    assert json.loads(run("plan", "--json")[1])["evaluate"] == {"needs": 3, "has": 3, "misses": 0}


def test_another_study_is_taken_as_it_is(project: Project, run: Run) -> None:
    project.params("study: small\nformats: []\n")
    assert run("plan", "--study", "small")[1].splitlines()[-1].startswith("11 to make")
    assert run("plan")[1].splitlines()[-1].startswith("5 to make")


def test_models(project: Project, run: Run) -> None:
    project.study(
        models=[
            {"source": "zoo", "name": "opt-0.1m"},
            {"source": "hub", "repo": "EleutherAI/pythia-70m", "revision": "e93a9faa"},
        ]
    )
    code, out, err = run("models")
    assert (code, err) == (0, "")
    zoo, hub = (line.split() for line in out.splitlines())
    assert zoo == ["opt-0.1m", "zoo", str((REPOSITORY / "data" / "zoo" / "opt-0.1m").resolve())]
    assert hub == ["pythia-70m", "hub", "EleutherAI/pythia-70m@e93a9faa"]


def test_formats(run: Run) -> None:
    code, out, err = run("formats")
    assert (code, err) == (0, "")
    names = [line.split()[0] for line in out.splitlines() if line]
    assert {"int4_b64", "mxint4_b32", "int4_g128_asym", "nvfp4_b16"} <= set(names)
    code, out, _ = run("formats", "nf4_b64", "mxfp4*_b32*")
    lines = out.splitlines()
    assert len(lines) == 6 and lines[1].startswith("nf4_b64") and "4.5000" in lines[1] and "bitsandbytes" in lines[1]
    code, out, _ = run("formats", "--names")
    assert {"int4_b64", "int8_row", "mxint4_b16_rceil", "dyn3_b4096_sf32_centered"} <= set(out.splitlines())
    code, out, _ = run("formats", "fp4_b64", "--json")
    (row,) = json.loads(out)
    assert (row["format"], row["bits"], row["block"], row["effective_bits"]) == ("fp4_e2m1_b64", 4, 64, 4.25)
    # The error of rounding to nearest, by simulation in another place: half a percent of slack for 2^20 numbers.
    assert row["gmse"] == pytest.approx(0.0135, rel=0.02)
    code, _, err = run("formats", "x*")
    assert code == 2 and err == "bitlaw: no number format matches 'x*'; 'bitlaw formats --names' lists all\n"


# ---- the schema


def accepts(schema: dict[str, Any], content: Any) -> bool:
    import jsonschema

    jsonschema.Draft202012Validator.check_schema(schema)
    return bool(jsonschema.Draft202012Validator(schema).is_valid(content))


def test_the_schema_accepts_the_studies_and_params_of_the_repository(run: Run) -> None:
    assert accepts(params_schema(), yaml.safe_load((REPOSITORY / "params.yaml").read_text()))
    studies = sorted((REPOSITORY / "studies").glob("*.yaml"))
    assert studies
    for path in studies:
        assert accepts(study_schema(), yaml.safe_load(path.read_text())), path
    assert json.loads(run("schema")[1]) == params_schema()
    assert json.loads(run("schema", "--study")[1]) == study_schema()


@pytest.mark.parametrize(
    "changes",
    [
        {"titel": "x"},
        {"models": []},
        {"models": [{"source": "zo"}]},
        {"models": [{"source": "path"}]},
        {"models": [{"source": "zoo", "nam": "a"}]},
        {"evaluation": {"windw": 3}},
        {"evaluation": {"window": 1}},
        {"evaluation": {"text": "file"}},
        {"evaluation": {"text": "pydocs"}},
        {"calibration": {"seed": -1}},
        {"methods": ["gtpq"]},
        {"methods": [{"name": "gptq", "dampin": 1}]},
        {"laws": ["kummar"]},
        {"formats": "int4_b64"},
    ],
)
def test_the_schema_refuses_what_the_study_refuses(changes: dict[str, Any], project: Project, run: Run) -> None:
    assert accepts(study_schema(), dict(SMALL))
    assert not accepts(study_schema(), {**SMALL, **changes})
    assert accepts(params_schema(), {"study": "small", "formats": [], "evaluation": {"window": 64}})
    assert not accepts(params_schema(), {"study": "small", **changes})
    project.study(**changes)
    assert run("plan")[0] == 2


def test_params_need_no_key_but_the_study() -> None:
    assert accepts(params_schema(), {"study": "demo"})
    assert not accepts(params_schema(), {"formats": []})


def test_the_schema_as_a_file(tmp_path: Path, run: Run) -> None:
    file = tmp_path / "params.schema.json"
    assert run("schema", "--write", str(file)) == (0, "", "")
    assert run("schema", "--check", str(file)) == (0, "", "")
    file.write_text(file.read_text().replace("bootstraps", "bootstrap"))
    assert run("schema", "--check", str(file))[0] == 2


# ---- pipes


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_seen_enough(project: Project, unbuffered: str) -> None:
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reader, writer = os.pipe()
    os.close(reader)
    for argv in (["formats"], ["plan"], ["schema"], ["--help"]):
        command = [sys.executable, "-m", "bitlaw", *argv]
        done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, env=environment)
        assert (done.returncode, done.stderr) == (0, ""), argv
    os.close(writer)
