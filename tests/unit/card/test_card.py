"""The data card: every number between the markers is that of the tables, and what is around them stays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import synthetic
from bitlaw.card import SECTIONS, charts
from bitlaw.card.base import Study, interval
from bitlaw.card.page import NOTHING, ordered
from bitlaw.cli.main import main
from bitlaw.laws import LAWS
from bitlaw.reference import shipped
from bitlaw.report import words
from bitlaw.report.total_bits import best, shares
from bitlaw.table import COLUMNS

KIND = {column.name: column.dtype for column in COLUMNS}
FORMATS = (*synthetic.FORMATS, ("int", 4, "32"), ("mxint", 3, "64"), ("mxint", 4, "64"))


def study() -> pd.DataFrame:
    """Return a study with all that a card can show: two texts, tokens, mixes, radial profiles, tasks."""
    rng = np.random.default_rng(0)
    base = synthetic.table(families=synthetic.FAMILIES[:4], formats=FORMATS, noise=0.03)
    more = synthetic.table(
        families=("opt",), tokens=(50_000_000, 450_000_000, 4_000_000_000), formats=FORMATS, noise=0.03
    )
    whole = pd.concat([base, more], ignore_index=True)
    mixed = pd.DataFrame(synthetic.mixes(whole)).reindex(columns=list(KIND)).astype(KIND)
    whole = pd.concat([whole, mixed], ignore_index=True).astype(KIND)
    quantized = whole["format"] != "unquantized"
    noise = rng.lognormal(0.0, 0.3, len(whole))
    whole["radial_delta_nll"] = (whole["delta_nll"] * noise).where(quantized)
    whole["step_db"] = 20.0 - 2.0 * np.log10(whole["n_params"].astype("float64") / 1e5)
    whole["accuracy"] = 0.6 - 0.05 * whole["nll"]
    whole["tasks"] = pd.array(["lambada"] * len(whole), dtype="string")
    texts = [whole.assign(text=text, text_sha256=text, key=text + whole["key"]) for text in ("novels", "wikitext-2")]
    table = pd.concat(texts, ignore_index=True).astype({"text": "string", "text_sha256": "string"})
    versions = {name: pd.array(["1.0"] * len(table), dtype="string") for name in ("device", *shipped.VERSIONS)}
    return table.assign(**versions, seconds=0.25, dollars=0.001)


def write(folder: Path) -> Path:
    """Write the study with its profiles and curves into ``folder`` and return its table."""
    table = study()
    shipped.write(folder / shipped.RESULTS, table)
    names = sorted(table["model"].unique())
    points = [(name, "filter", 0, r, 10 ** (r / 10), 4.0) for name in names for r in (-30.0, -20.0, -10.0, 0.0)]
    columns = ["model", "kind", "direction", "r_db", "delta_nll", "height"]
    shipped.write(folder / shipped.LANDSCAPE, pd.DataFrame(points, columns=columns))
    curve = [(name, 1000 * step, 6.0 / step) for name in names for step in range(1, 5)]
    shipped.write(folder / shipped.CURVES, pd.DataFrame(curve, columns=["model", "tokens", "loss"]))
    return folder / shipped.RESULTS


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the table and the page of the study."""
    folder = tmp_path_factory.mktemp("card")
    table = write(folder / "data")
    records = synthetic.predictor(study())["evaluations"][0]["records"]
    with pytest.MonkeyPatch.context() as patch:  # the predictor and most laws have tests of their own
        patch.setattr("bitlaw.card.sections.laws.LAWS", {name: LAWS[name] for name in ("kumar", "gmse")})
        patch.setattr("bitlaw.card.sections.predictor.run", lambda name, *_: records[name])
        assert main(["card", str(folder / "page.md"), "--table", str(table)]) == 0
    return table, folder / "page.md"


def check(table: Path, page: Path, *more: str) -> int:
    return main(["card", str(page), "--table", str(table), "--check", *more])


def test_a_page_has_all_sections_with_their_figures(card: tuple[Path, Path]) -> None:
    text = card[1].read_text("utf-8")
    assert re.findall(r"<!-- (\w+) -->", text)[::2] == [*ordered(), "checksums"]
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)
    assert len(figures) == len(set(figures)) >= 12
    assert all((card[1].parent / one).read_text("utf-8").startswith("<svg") for one in figures)
    assert sorted(path.name for path in (card[1].parent / "figures/reference").iterdir()) == sorted(
        Path(one).name for one in figures
    )
    assert NOTHING not in text and "nan" not in text.lower()
    assert "hold 90.0%." in text and "| `chosen` | 0.01 (median 0.005, R² 0.9) |" in text
    assert "| time |" in text and "| `chinchilla` | wikitext-2 | opt |" in text


def test_its_numbers_are_those_of_the_tables(card: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    table, page = card
    assert check(table, page, "--quick") == 0
    rows = study()
    assert f"| cells | {len(rows):,}," in page.read_text("utf-8")
    assert f"{len(rows) * 0.25 / 60:.1f} min of processes for {len(rows):,} cells, 0.25 s each" in page.read_text(
        "utf-8"
    )


@pytest.mark.parametrize(
    ("old", "new", "more", "said"),
    [
        ("0.25 s each", "0.15 s each", (), "grid: not what the tables give"),
        ("| **holds** |", "| **does not hold** |", ("--quick",), "checksums: the page or the tables were changed"),
        ("intervals hold 95 %", "intervals hold 95 %, one hopes", ("--quick",), None),
    ],
)
def test_a_number_that_was_changed_is_found(
    old: str,
    new: str,
    more: tuple[str, ...],
    said: str | None,
    card: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    table, page = card
    text = page.read_text("utf-8")
    assert old in text
    other = page.with_name("other.md")
    other.write_text(text.replace(old, new, 1), "utf-8")
    if said == "grid: not what the tables give":
        monkeypatch.setattr("bitlaw.card.page.ordered", lambda: ["grid"])
    assert check(table, other, *more) == (0 if said is None else 2)
    error = capsys.readouterr().err
    assert (said or "") in error and error.count("\n") == (0 if said is None else 1)


def test_other_tables_and_missing_figures_are_found(
    card: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = card
    assert check(table, page, "--quick", "--figures", str(tmp_path)) == 2
    assert "is not there" in capsys.readouterr().err
    rows = shipped.read(table)
    shipped.write(tmp_path / shipped.RESULTS, rows.assign(seconds=0.5))
    assert check(tmp_path / shipped.RESULTS, page, "--quick") == 2
    assert "grid: not what the tables give" in capsys.readouterr().err


def test_a_section_is_made_again_alone_and_words_around_it_stay(
    card: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, page = card
    text = page.read_text("utf-8").replace("## Block sizes\n", "## Block sizes\n\nWhat we found.\n")
    mine = tmp_path / "mine.md"
    mine.write_text(
        re.sub(r"(<!-- grid -->\n).*?(<!-- end -->)", r"\1old\n\2", text, count=1, flags=re.DOTALL), "utf-8"
    )
    assert main(["card", str(mine), "--table", str(table), "--only", "grid", "--figures", str(tmp_path)]) == 0
    assert mine.read_text("utf-8") == text
    assert main(["card", str(mine), "--table", str(table), "--only", "gird"]) == 2
    assert "unknown section 'gird'; did you mean 'grid'?" in capsys.readouterr().err
    mine.write_text("nothing\n", "utf-8")
    assert main(["card", str(mine), "--table", str(table), "--only", "grid"]) == 2
    assert "the page has no lines <!-- grid -->" in capsys.readouterr().err


def test_a_study_without_tasks_mixes_or_profiles_has_a_page_without_them(tmp_path: Path) -> None:
    shipped.write(tmp_path / "table.parquet", synthetic.table())
    card = Study.named(str(tmp_path / "table.parquet"))
    quick = [name for name in ordered() if not SECTIONS[name].slow]
    nothing = {name for name in quick if SECTIONS[name].make(card) is None}
    assert nothing == {"blocks", "radial", "mixes", "zeroshot", "tokens"}
    made = SECTIONS["grid"].make(card)
    assert made is not None and "| time |" not in made.text
    assert "No radial profile was measured" in SECTIONS["noise"].make(card).text


def test_the_share_of_budgets_is_that_of_the_lowest_curve() -> None:
    sizes = {100_000: (3.0, 2.9), 10_000_000: (2.0, 1.9)}
    rows = [
        synthetic.row(model=f"opt-{n}", family="opt", n_params=n, format=f"int{bits}_b64", bits=bits, method="rtn",
                      nll=losses[bits - 3], model_bits=float(n * bits), key=f"{n}/{bits}")
        for n, losses in sizes.items() for bits in (3, 4)
    ]  # fmt: skip
    found = shares(best(pd.DataFrame(rows))).set_index("bits")["share"]
    assert found.to_dict() == {3: 0.0, 4: 1.0}  # 0.1 nats lower, for a third more bits on a slope of 0.15 nats a bit
    steep = pd.DataFrame(rows).assign(nll=lambda part: part["nll"] + (part["bits"] == 4) * 0.3)
    assert shares(best(steep)).set_index("bits")["share"].to_dict() == {3: 1.0, 4: 0.0}


def test_intervals_are_of_clusters_and_few_values_have_none() -> None:
    assert interval([1.0, 2.0], ["a", "b"]) == "1.5"
    assert interval([], []) == words.MISSING
    assert interval([0.0] * 6, list("aabbcc"), ratio=True) == "1 (1 to 1)"
    low, high = re.findall(r"[\d.]+", interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], list("aabbcc")))[1:]
    assert 1.4 <= float(low) < 3.5 < float(high) <= 5.6


def test_panels_are_in_the_order_of_their_numbers() -> None:
    wanted = ["2", "16", "100 k", "332 k parameters", "1.07 M parameters", "3.1 M", "10.2 M parameters", "novels", "x"]
    assert sorted(sorted(wanted), key=charts._in_order) == wanted
