"""The examples of docs/extending.md are put into a copy of the package and used there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
EXAMPLE = re.compile(r"`(src/bitlaw/\S+\.py)`:\n\n```python\n(.*?)```", re.DOTALL)
PAGE = (REPOSITORY / "docs" / "extending.md").read_text("utf-8")
EXAMPLES = dict(EXAMPLE.findall(PAGE))

USES = {
    "src/bitlaw/formats/logarithmic.py": """
        import torch
        from bitlaw.formats import grammar
        assert "log4_b16" in grammar.known_names() and "log4_b64" in grammar.usual_names()
        fmt = grammar.parse("log4_b16")
        assert str(fmt) == "log4_b16" and grammar.modules("log4_b16") == ("bitlaw.formats.logarithmic",)
        w = torch.randn(8, 40, generator=torch.Generator().manual_seed(0))
        q = fmt.quantize(w)
        assert fmt.effective_bits(w.shape) == 4 + 3 * 16 / 40
        again = type(q).from_tensors(fmt, q.shape, q.tensors())
        assert torch.equal(fmt.dequantize(again), fmt.dequantize(q))
        assert torch.equal(fmt.dequantize(q), fmt.fake_quantize(w))
        ratios = fmt.dequantize(q)[0, :16] / w[0, :16].abs().max().half().float()
        assert torch.equal(ratios.abs(), 2.0 ** ratios.abs().log2().round())
        w[2, 3], w[5] = float("nan"), 0.0
        broken = fmt.dequantize(fmt.quantize(w))
        assert broken[2, :16].isnan().all() and broken[2, 16:].isfinite().all() and (broken[5] == 0).all()
    """,
    "src/bitlaw/methods/clip.py": """
        import torch
        from bitlaw.formats import grammar
        from bitlaw.methods import METHODS
        method, fmt = METHODS["clip"], grammar.parse("int3_b64")
        w = torch.randn(16, 64, generator=torch.Generator().manual_seed(0))
        q, info = method.quantize(w, fmt, method.Settings())
        error = lambda q: float((fmt.dequantize(q) - w).square().sum())
        assert info["share"] < 1.0 and error(q) < error(fmt.quantize(w))
    """,
    "src/bitlaw/laws/noise.py": """
        import numpy as np, synthetic
        from bitlaw.laws import LAWS
        from bitlaw.laws.fit import fit
        from bitlaw.report.headline import of_laws
        table = synthetic.table()
        quantized = table["format"] != "unquantized"
        table.loc[quantized, "delta_nll"] = 3.0 * 10.0 ** (-table.loc[quantized, "sqnr_db"] * 0.08)
        record = fit(LAWS["noise"], table, LAWS["noise"].settings(), seed=0, bootstraps=20)
        assert len(record["fits"]) == 2
        for entry in record["fits"]:
            values = {c["name"]: c["value"] for c in entry["constants"]}
            assert np.isclose(values["A"], 3.0, rtol=1e-3) and np.isclose(values["beta"], 0.8, rtol=1e-3)
        assert "beta = 0.8" in of_laws({"laws": {"noise": {"title": "Noise", **record}}})[0]
    """,
    "src/bitlaw/text/folder.py": """
        from pathlib import Path
        from bitlaw.text.store import parse_text, resolve_text
        Path("notes").mkdir()
        Path("notes/b.md").write_text("second"), Path("notes/a.md").write_text("first")
        text = resolve_text(parse_text({"source": "folder", "path": "notes", "files": "*.md"}), Path.cwd())
        assert text.name == "notes" and text.path.read_text() == "first\\n<|endoftext|>\\nsecond"
    """,
    "src/bitlaw/models/sources/shelf.py": """
        import os
        from pathlib import Path
        from bitlaw.models.sources import SOURCES
        shelf = SOURCES["shelf"]
        found = shelf.resolve(shelf.Settings(source="shelf", path=os.environ["ZOO"]), Path.cwd())
        assert len(found) == 15 and found[0].name == "bloom-0.1m" and found[0].labels["source"] == "shelf"
    """,
    "src/bitlaw/stages/worst.py": """
        import synthetic
        from pathlib import Path
        from bitlaw.artifacts import read_json, write_table
        from bitlaw.stage import Header, Job
        from bitlaw.stages import STAGES
        table = synthetic.table(families=("opt",))
        write_table(Path("table.parquet"), Header("table", "t", {}, {}, "c"), table)
        header = Header("worst", "w", {"count": 2}, {"table": ["t"]}, "c")
        STAGES["worst"].run(Job(header, {"table": (Path("table.parquet"),)}, Path("out.json"), Path("out")))
        worst = read_json(Path("out.json"))
        assert len(worst) == 3 and all(len(rows) == 2 for rows in worst.values())
        assert all(row[0] == "int2_b64" for rows in worst.values() for row in rows[:1])
    """,
}


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name, code in EXAMPLES.items():
        assert not (root / name).exists()
        (root / name).write_text(code, "utf-8")
    return root


def test_every_example_is_used() -> None:
    assert set(EXAMPLES) == set(USES)
    assert PAGE.count("```python") == len(USES)


@pytest.mark.parametrize("name", USES)
def test_the_example_works(name: str, package: Path, tmp_path: Path) -> None:
    lines = USES[name].strip("\n").splitlines()
    code = "\n".join(line[8:] for line in lines)
    path = os.pathsep.join([str(package / "src"), str(REPOSITORY / "tests")])
    environment = {**os.environ, "PYTHONPATH": path, "ZOO": str(REPOSITORY / "data" / "zoo"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


def test_a_study_takes_them(package: Path, tmp_path: Path) -> None:
    study = {
        "models": [{"source": "shelf", "path": str(REPOSITORY / "data" / "zoo")}],
        "formats": ["log3_row"],
        "methods": [{"name": "clip", "shares": [1.0, 0.9]}],
        "evaluation": {"text": {"source": "folder", "path": "notes"}},
        "laws": ["noise"],
    }
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "own.yaml").write_text(json.dumps(study), "utf-8")
    (tmp_path / "params.yaml").write_text("study: own\n", "utf-8")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("A note.\n", "utf-8")
    environment = {**os.environ, "PYTHONPATH": str(package / "src")}
    ran = subprocess.run(
        [sys.executable, "-m", "bitlaw", "plan", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    counts = json.loads(ran.stdout)
    assert counts["quantize"]["misses"] == 15 and counts["evaluate"]["misses"] == 30


def test_the_examples_are_in_the_house_style() -> None:
    pytest.importorskip("ruff")
    for name, code in EXAMPLES.items():
        for arguments in (["check"], ["format", "--check"]):
            ran = subprocess.run(
                [sys.executable, "-m", "ruff", *arguments, "--stdin-filename", str(REPOSITORY / name), "-"],
                input=code,
                cwd=REPOSITORY,
                capture_output=True,
                text=True,
                check=False,
            )
            assert ran.returncode == 0, f"{name}: {ran.stdout}{ran.stderr}"
