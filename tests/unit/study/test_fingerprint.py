"""Fingerprints of code: what changes them, what does not, and what each stage depends on."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bitlaw.cli import COMMANDS
from bitlaw.formats import FORMATS
from bitlaw.laws import LAWS
from bitlaw.methods import METHODS
from bitlaw.models.sources import SOURCES
from bitlaw.stages import STAGES
from bitlaw.study import fingerprint as module
from bitlaw.study.artifact import code_of
from bitlaw.study.fingerprint import closure, fingerprint, tree_digest
from bitlaw.text import CORPORA
from projects import REPOSITORY, Project

PACKAGE = REPOSITORY / "src" / "bitlaw"
SPECS: dict[str, dict[str, Any]] = {
    "model": {"source": {"source": "train"}},
    "calibrate": {},
    "factorize": {},
    "quantize": {"format": "int4_b64", "method": "gptq"},
    "sensitivity": {"select": "loss", "calibration": {}},
    "mix": {"select": "random"},
    "evaluate": {},
    "zeroshot": {},
    "output_error": {},
    "landscape": {},
    "table": {"rows": [{"format": "int4_b64"}, {"format": "mxint4_b32"}, {"format": "unquantized"}]},
    "laws": {"laws": {"kumar": {}, "power_offset": {}}},
    "predictor": {},
    "claims": {},
    "report": {},
}


def of(stage: str, **spec: Any) -> set[str]:
    """Return the modules, without ``bitlaw.``, that ``stage`` depends on."""
    roots = (STAGES.module(stage), *STAGES[stage].code(spec or SPECS.get(stage, {})))
    return {name.removeprefix("bitlaw.") for name in closure(roots)}


SOURCE = '''
"""Docstring."""
from bitlaw.errors import UserError
LIMIT = 3  # a comment

def f(x):
    """What it does."""
    return [x, LIMIT, "text", f"{x:.2f}"]
'''


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# a comment", ""),
        ("Docstring.", "Another."),
        ('    """What it does."""\n', ""),
        ('[x, LIMIT, "text", f"{x:.2f}"]', "[\n        x,\n        LIMIT, 'text',\n        f'{x:.2f}'\n    ]"),
        ("LIMIT = 3", 'LIMIT = 3\n"""What the limit is."""'),
        ("LIMIT = 3", "from typing import TYPE_CHECKING\nLIMIT = 3"),
        ("return", "if TYPE_CHECKING:\n        from bitlaw.table import frame\n    return"),
        ("return", "if typing.TYPE_CHECKING:\n        import pandas\n    return"),
    ],
)
def test_what_computes_nothing_changes_nothing(old: str, new: str) -> None:
    assert SOURCE.count(old) >= 1
    before = (
        SOURCE.replace("LIMIT = 3", "from typing import TYPE_CHECKING\nLIMIT = 3") if "import TYPE" in new else SOURCE
    )
    assert tree_digest(SOURCE.replace(old, new)) == tree_digest(before)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("LIMIT = 3", "LIMIT = 4"),
        ("LIMIT = 3", "LIMIT = 3.0"),
        ("LIMIT = 3", "LIMIT = True"),
        ('"text"', '"texts"'),
        (":.2f", ":.3f"),
        ("def f(x)", "def f(x, /)"),
        ("def f(x)", "def f(x=None)"),
        ("[x, LIMIT", "[LIMIT, x"),
        ("return", "yield"),
        ("import UserError", "import UserError as Error"),
    ],
)
def test_what_computes_something_changes_it(old: str, new: str) -> None:
    assert SOURCE.count(old) >= 1
    assert tree_digest(SOURCE.replace(old, new)) != tree_digest(SOURCE)


def test_what_runs_instead_of_type_checking_counts() -> None:
    one = "if TYPE_CHECKING:\n    A = int\nelse:\n    from bitlaw.table import frame\n    A = 1\n"
    assert tree_digest(one) == tree_digest("from bitlaw.table import frame\nA = 1\n")
    assert tree_digest(one) != tree_digest(one.replace("A = 1", "A = 2"))


def test_different_trees_have_different_digests() -> None:
    texts = [
        "x = None",
        "x: int = None",
        "x = ...",
        "x = 0",
        "x = -0",
        "x = ''",
        "x = b''",
        "x = []",
        "x = ()",
        "x = {}",
    ]
    texts += ["return_ = 1", "del x", "def f(): pass", "async def f(): pass", "def f(*, x): pass", "def f(*x): pass"]
    texts += [
        "x = a.b",
        "x = a['b']",
        "x = a[b]",
        "f(*x)",
        "f(**x)",
        "f(x=x)",
        "{**x}",
        "{*x}",
        "a < b < c",
        "a < (b < c)",
    ]
    assert len({tree_digest(text) for text in texts}) == len(texts)


# ---- the package as it is


def test_imports_inside_functions_are_followed() -> None:
    text = (PACKAGE / "stages" / "evaluate.py").read_text()
    assert not re.search("^from bitlaw.evaluation", text, re.MULTILINE)
    assert {"evaluation.nll", "models.load", "formats.base"} <= of("evaluate")


def test_imports_for_type_checking_are_not() -> None:
    assert "from bitlaw.laws.base import Law" in (PACKAGE / "laws" / "__init__.py").read_text()
    assert closure(["bitlaw.laws"]) == {"bitlaw.laws", "bitlaw.plugins", "bitlaw.errors"}


def test_quantize_depends_on_its_method_and_format_alone() -> None:
    methods = {f"methods.{name}" for name in METHODS}
    formats = {f"formats.{name}" for name in FORMATS}
    for fmt, kind in (("int4_b64", "formats.integer"), ("mxint4_b32", "formats.mxint")):
        for method in METHODS:
            found = of("quantize", format=fmt, method=method)
            assert found & methods == {f"methods.{method}"}
            assert found & formats == {kind}
            own = {
                "gptq": {
                    "methods.gptq_solver",
                    "methods.gptq_factor",
                    "methods.factors",
                    "methods.sequential",
                    "models.calibration",
                },
                "awq": {"methods.awq_search"},
                "proxy": {"models.producers"},
            }
            for other, its in own.items():
                assert bool(its & found) == (method == other)
            assert own.get(method, set()) <= found
            assert {"formats.packing", "models.linears", "methods.stored"} <= found
    assert "models.calibration" in of("quantize", format="int4_b64", method="awq", calibration={})


def test_factors_depend_on_no_method_and_no_kind_of_format() -> None:
    found = of("factorize")
    assert {"methods.gptq_factor", "methods.factors"} <= found
    assert not any(name.startswith("formats.") or name == "methods.gptq_solver" for name in found)
    assert not found & {f"methods.{name}" for name in METHODS}


def test_evaluate_depends_on_no_method_and_no_kind_of_format() -> None:
    rest = {f"methods.{name}" for name in METHODS} | {f"formats.{name}" for name in FORMATS}
    assert not of("evaluate") & (rest | {"methods.gptq_solver", "models.calibration", "models.train"})
    assert not any(name.startswith(("text", "laws", "report")) for name in of("evaluate"))
    assert {name for name in of("evaluate") if name.startswith("methods")} == {
        "methods",
        "methods.squares",
        "methods.stacks",
        "methods.stored",
        "methods.swap",
    }


def test_laws_and_table_depend_on_what_they_name() -> None:
    assert "laws.power_offset" not in of("laws", laws={"kumar": {}})
    assert "laws.kumar" not in of("laws", laws={"power_offset": {}})
    assert "formats.mxint" not in of("table", rows=[{"format": "int4_b64"}])
    assert "models.train" not in of("model", source={"source": "folder"})


def modules() -> set[str]:
    """Return the dotted names of all modules of the package."""
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    return {".".join(path.parts).removesuffix(".__init__") for path in paths}


def test_nothing_below_the_study_reaches_it() -> None:
    above = (
        "bitlaw.study",
        "bitlaw.cli",
        "bitlaw.workflow",
        "bitlaw.pool",
        "bitlaw.export",
        "bitlaw.exchange",
        "bitlaw.doctor",
        "bitlaw.__main__",
    )
    below = {name for name in modules() if not name.startswith(above)}
    assert len(below) > 40
    for name in sorted(below):
        reached = {found for found in closure([name]) if found.startswith(above)}
        assert not reached, f"{name} reaches {sorted(reached)}"


def test_every_stage_with_what_it_chooses_stays_below_the_study() -> None:
    assert set(STAGES) == set(SPECS)
    for stage in STAGES:
        assert not any(name.startswith(("study", "cli", "workflow", "pool")) for name in of(stage)), stage


def test_no_stage_imports_a_stage() -> None:
    for stage in STAGES:
        others = {f"stages.{name}" for name in STAGES if name != stage}
        assert not of(stage) & others, stage


def test_no_entry_of_a_registry_imports_another() -> None:
    for registry in (FORMATS, METHODS, LAWS, SOURCES, CORPORA):
        entries = {registry.module(name) for name in registry}
        for name in registry:
            assert closure([registry.module(name)]) & entries == {registry.module(name)}
    for name in COMMANDS:
        own = {COMMANDS.module(name), "bitlaw.cli.plan"}  # commands that need a plan open it the same way
        assert closure([COMMANDS.module(name)]) & {COMMANDS.module(other) for other in COMMANDS} <= own


def test_every_import_of_the_package_is_seen() -> None:
    """The names that follow from the text of each file, found without the code under test, are in its closure."""
    written = re.compile(r"^\s*(?:from (bitlaw[.\w]*) import|import (bitlaw[.\w]*))", re.MULTILINE)
    for name in sorted(modules() - {"bitlaw"}):
        path = PACKAGE.parent.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.walk(tree := ast.parse(file.read_text())):
            if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
                node.body = [ast.Pass()]
        imported = {a or b for a, b in written.findall(ast.unparse(tree))} - {"bitlaw"}
        assert imported <= closure([name]), name


def test_no_such_module() -> None:
    with pytest.raises(FileNotFoundError, match=r"no module bitlaw\.nothing"):
        fingerprint(("bitlaw.nothing",))


# ---- edits


Edit = Callable[[str, str, str], None]


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Edit]:
    """Edit a copy of the package, which fingerprints are then taken of: ``edit(file, old, new)``."""
    copy = tmp_path / "src" / "bitlaw"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "_SOURCE", copy)

    def forget() -> None:
        fingerprint.cache_clear()
        module._module.cache_clear()

    def change(file: str, old: str, new: str) -> None:
        text = (copy / file).read_text()
        assert old in text
        (copy / file).write_text(text.replace(old, new))
        forget()

    forget()
    yield change
    monkeypatch.undo()
    forget()


def keys(project: Project) -> dict[tuple[str, str], str]:
    return {(a.stage, a.label): a.key for a in project.artifacts()}


def changed(project: Project, before: dict[tuple[str, str], str]) -> set[tuple[str, str]]:
    return {name for name, key in keys(project).items() if before[name] != key}


LAST = {("table", ""), ("laws", ""), ("report", "")}


def test_a_comment_changes_no_key(edit: Edit, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", laws=["kumar"])
    before = keys(project)
    for file in ("methods/gptq_solver.py", "artifacts.py", "formats/base.py", "laws/fit.py"):
        edit(file, "from __future__ import annotations", "# Why.\nfrom __future__ import annotations\n\n")
    edit("stages/quantize.py", "The quantize stage", "The stage that quantizes")
    assert not changed(project, before)


def test_the_gptq_solver_is_in_the_keys_of_gptq_alone(edit: Edit, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", formats=["int4_b64", "mxint4_b32"], laws=["kumar"])
    before = keys(project)
    text = (PACKAGE / "methods" / "gptq_solver.py").read_text()
    line = next(line for line in text.splitlines() if line.startswith("def "))
    edit("methods/gptq_solver.py", line, f"_NEW = 1\n\n\n{line}")
    cells = {f"gpt2-0.1m/{fmt}-gptq" for fmt in ("int4_b64", "mxint4_b32")}
    followers = {(s, cell) for s in ("quantize", "evaluate") for cell in cells} | LAST
    assert changed(project, before) == followers
    before = keys(project)
    edit("methods/gptq_factor.py", "def factorize(", "_NEW = 1\n\n\ndef factorize(")
    assert changed(project, before) == followers | {("factorize", "gpt2-0.1m/words")}


def test_the_search_of_awq_is_in_the_keys_of_awq_alone(edit: Edit, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", methods=["rtn", "gptq", "awq", "proxy"], laws=["kumar"])
    before = keys(project)
    edit("methods/awq_search.py", "SMALLEST = 1e-4", "SMALLEST = 1e-5")
    assert changed(project, before) == {(s, "gpt2-0.1m/int4_b64-awq") for s in ("quantize", "evaluate")} | LAST
    before = keys(project)
    edit("models/producers.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    assert changed(project, before) == {(s, "gpt2-0.1m/int4_b64-proxy") for s in ("quantize", "evaluate")} | LAST


@pytest.mark.parametrize("file", ["cpu.cpp", "cpu_elements.hpp", "cpu_vectors.hpp"])
def test_compiled_code_counts_with_the_module_that_compiles_it(edit: Edit, file: str) -> None:
    kernels, others = ("bitlaw.formats.kernels.cpu",), ("bitlaw.formats.packing",)
    before, unchanged = fingerprint(kernels), fingerprint(others)
    edit(f"formats/kernels/{file}", "namespace {", "namespace {  // changed")
    assert fingerprint(kernels) != before
    assert fingerprint(others) == unchanged


def test_compiled_code_counts_for_all_that_is_quantized(edit: Edit) -> None:
    before = fingerprint(("bitlaw.formats.base",))
    edit("formats/kernels/cpu.cpp", "namespace {", "namespace {  // changed")
    assert fingerprint(("bitlaw.formats.base",)) != before


def test_a_format_is_in_the_keys_of_its_cells_alone(edit: Edit, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", formats=["int4_b64", "mxint4_b32"], laws=["kumar"])
    before = keys(project)
    edit("formats/mxint.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    cells = {f"gpt2-0.1m/mxint4_b32-{method}" for method in ("rtn", "gptq")}
    assert changed(project, before) == {(s, cell) for s in ("quantize", "evaluate") for cell in cells} | LAST


def test_the_report_is_in_its_own_key_alone(edit: Edit, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", laws=["kumar"])
    before = keys(project)
    edit("report/page.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    assert changed(project, before) == {("report", "")}
    edit("laws/kumar.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    assert changed(project, before) == {("report", ""), ("laws", "")}
    edit("laws/power_offset.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    assert changed(project, before) == {("report", ""), ("laws", "")}


def test_a_new_method_or_format_or_law_changes_no_key(edit: Edit, tmp_path: Path) -> None:
    project = Project(tmp_path / "project", laws=["kumar"])
    before = keys(project)
    copy = tmp_path / "src" / "bitlaw"
    for folder, name in (("methods", "rtn"), ("formats", "integer"), ("laws", "kumar"), ("stages", "model")):
        shutil.copy(copy / folder / f"{name}.py", copy / folder / "another.py")
    edit("study/make.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    edit("models/sources/zoo.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    edit("text/file.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    assert not changed(project, before)


def test_another_process_in_another_folder_finds_the_same_fingerprints(edit: Edit, tmp_path: Path) -> None:
    spec = {"format": "int4_b64", "method": "gptq"}
    code = f"from bitlaw.study.artifact import code_of; print(code_of('quantize', {spec}))"

    def ask() -> str:
        environment = {"PYTHONPATH": str(tmp_path / "src"), "PYTHONHASHSEED": "random"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    here = code_of("quantize", spec)
    assert ask() == here
    edit("methods/gptq_solver.py", "from __future__ import annotations", "from __future__ import annotations\n_NEW = 1")
    assert ask() == code_of("quantize", spec) != here
