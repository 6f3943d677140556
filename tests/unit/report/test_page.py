"""The page holds everything, escapes everything, fetches nothing, and is the same each time."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

import synthetic
from bitlaw.artifacts import write_json, write_table
from bitlaw.report import figures, pictures, scales
from bitlaw.report.charts import packed, script_json
from bitlaw.report.headline import headline, of_laws
from bitlaw.report.mathml import mathml
from bitlaw.report.page import page, report
from bitlaw.stage import Header, Job
from bitlaw.stages.report import STAGE
from bitlaw.table import frame

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "<script>alert('x')</script>&\"</script><img src=x onerror=alert(1)>"


class Tags(HTMLParser):
    """The start tags of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in self.inside:
            self.inside[self.tags[-1][0]].append(data)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return synthetic.table()


@pytest.fixture(scope="module")
def laws(table: pd.DataFrame) -> dict[str, Any]:
    return synthetic.laws(table)


def made(table: pd.DataFrame, laws: dict[str, Any], title: str = "Demo") -> str:
    return page(table, laws, title=title, study={"name": "demo"}, keys={"report": "r" * 32, "table": ["t" * 32]})


@pytest.fixture(scope="module")
def html(table: pd.DataFrame, laws: dict[str, Any]) -> str:
    return made(table, laws)


def blocks(html: str) -> dict[str, Any]:
    """Return the JSON of the page by the id of its element."""
    found = re.findall(r'<script type="application/json" id="([^"]*)">(.*?)</script>', html, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


def charts(html: str) -> dict[str, Any]:
    """Return the specifications of the charts, but the explorer's, with their data in rows."""
    found = {name: one for name, one in blocks(html).items() if name not in ("data", "spec-explorer")}
    for one in found.values():
        one["datasets"] = {name: unpacked(part) for name, part in one["datasets"].items()}
    return found


def unpacked(part: dict[str, Any]) -> list[dict[str, Any]]:
    columns = {
        name: column if isinstance(column, list) else [column["of"][at] for at in column["at"]]
        for name, column in part["columns"].items()
    }
    assert all(len(column) == part["n"] for column in columns.values())
    return [{name: column[i] for name, column in columns.items()} for i in range(part["n"])]


def cells(html: str) -> list[dict[str, Any]]:
    return unpacked(blocks(html)["data"]["cells"])


def test_nothing_is_fetched(html: str) -> None:
    page_ = Tags(html)
    for tag, attributes in page_.tags:
        for name in ("src", "href", "action", "poster", "data", "srcset"):
            value = attributes.get(name) or ""
            assert not value or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"url\(|@import|@font-face", "".join(page_.inside["style"]))
    assert "http" not in json.dumps(blocks(html))


def test_equal_inputs_give_equal_bytes(table: pd.DataFrame, laws: dict[str, Any], html: str) -> None:
    assert made(table, laws) == html


def test_every_name_is_escaped(table: pd.DataFrame) -> None:
    hostile = table.copy()
    for column in ("model", "family", "text", "settings", "calibration_text"):
        hostile[column] = hostile[column] + HOSTILE
    hostile.loc[3, ["nll", "delta_nll"]] = math.inf
    hostile.loc[3, "finite"] = False
    laws = synthetic.laws(hostile, bootstraps=5)
    html = page(hostile, laws, title=HOSTILE, study={HOSTILE: HOSTILE}, keys={HOSTILE: HOSTILE})
    parsed = Tags(html)
    assert "img" not in {tag for tag, _ in parsed.tags}
    assert sum(tag == "script" and of["type"] == "module" for tag, of in parsed.tags) == 2
    assert cells(html)[0]["model"].endswith(HOSTILE)


def test_a_loss_that_is_not_finite_is_flagged(table: pd.DataFrame) -> None:
    broken = table.copy()
    row = broken.index[broken["format"] == "int4_b64"][0]
    broken.loc[row, ["nll", "delta_nll", "perplexity"]] = math.nan
    broken.loc[row, "finite"] = False
    html = made(broken, synthetic.laws(broken, bootstraps=5))
    assert "1 of 225 cells has no finite loss." in html
    assert "No finite loss:<ul><li>" in html
    assert cells(html)[row]["nll"] == "NaN"
    states = [v["state"] for chart in charts(html).values() for v in values_of(chart) if "state" in v]
    assert states.count(figures.BROKEN) == 2  # among all models and in its family


def values_of(chart: dict[str, Any]) -> list[dict[str, Any]]:
    return [value for values in chart.get("datasets", {}).values() for value in values]


def test_laws_show_constants_intervals_and_what_was_left_out(html: str, laws: dict[str, Any]) -> None:
    assert "Rows left out:" in html and "saturated: delta_nll above 1 nats" in html
    assert "4 degrees of freedom" in html and "<math" in html
    assert "0.5907" in html  # published, beside ours
    assert '<td class="n">held</td>' in html


def test_a_law_that_could_not_be_fitted_is_said(table: pd.DataFrame) -> None:
    few = table[table["family"] == "opt"]
    laws = synthetic.laws(few, bootstraps=5)
    assert any("not fitted (3 points for 3 constants" in line for line in headline(few, laws))
    assert "Not fitted." in made(few, laws)


def test_a_table_of_one_unquantized_model_has_a_page(table: pd.DataFrame) -> None:
    one = table[table["format"] == "unquantized"].iloc[:1]
    assert "1 cell: 1 model of 1 family" in made(one, synthetic.laws(one, bootstraps=5))


def test_two_texts_are_drawn_apart(table: pd.DataFrame) -> None:
    other = table.assign(text="other", text_sha256="cd" * 32, key=table["key"] + "/2", model=table["model"])
    both = pd.concat([table, other], ignore_index=True)
    assert len(charts(made(both, synthetic.laws(both, bootstraps=5)))) == 2 * (2 + 5 + 5 + 2)


def test_headline_says_what_four_bits_cost(table: pd.DataFrame, laws: dict[str, Any]) -> None:
    lines = headline(table, laws)
    rows = table[table["format"] == "int4_b64"].groupby("method")["delta_nll"].mean()
    assert lines[0].startswith(
        "225 cells: 15 models of 5 families (100 k to 1.6 M non-embedding parameters), 7 formats"
    )
    assert (
        f"+{rows['rtn']:.3f} nats with RTN and +{rows['gptq']:.3f} nats with GPTQ, on average over 15 models"
        in lines[1]
    )
    assert f"GPTQ recovers {1 - rows['gptq'] / rows['rtn']:.0%} of what RTN loses" in lines[1]


def test_headline_compares_methods_on_the_same_models(table: pd.DataFrame, laws: dict[str, Any]) -> None:
    broken = table.copy()
    row = broken.index[(broken["format"] == "int4_b64") & (broken["method"] == "gptq")][0]
    broken.loc[row, "delta_nll"] = math.inf
    broken.loc[row, "finite"] = False
    left = broken[(broken["format"] == "int4_b64") & (broken["model"] != broken.loc[row, "model"])]
    means = left.groupby("method")["delta_nll"].mean()
    expected = f"+{means['rtn']:.3f} nats with RTN and +{means['gptq']:.3f} nats with GPTQ, on average over 14 models"
    assert expected in headline(broken, laws)[1]


def kumar(**changes: Any) -> dict[str, Any]:
    names = {"C_T": True, "gamma_N": True, "gamma_post": True}
    constants = [
        {"name": name, "group": None, "value": 0.5, "low": 0.4, "high": 0.6, "held": False, "determined": known}
        for name, known in {**names, **changes.pop("determined", {})}.items()
    ]
    fit = {"by": {}, "n": 9, "df": 6, "r2": 0.9, "interval": 0.9, "plain": "one more bit divides it by 7.4"}
    fit |= {"constants": constants, **changes}
    return {"laws": {"kumar": {"title": "Added loss", "fits": [fit], "not_fitted": []}}}


@pytest.mark.parametrize("r2", [None, 0.0, -0.018])
def test_headline_of_a_fit_no_better_than_a_constant(r2: float | None) -> None:
    (line,) = of_laws(kumar(r2=r2))
    assert line.startswith("Added loss: tells nothing, it fits no better than a constant (")
    assert "divides" not in line


def test_headline_names_what_is_not_determined() -> None:
    (line,) = of_laws(kumar(determined={"gamma_N": False}))
    assert line == (
        "Added loss: one more bit divides it by 7.4; not determined by the data: gamma_N "
        "(R² 0.900, 9 points, 6 degrees of freedom)."
    )
    (line,) = of_laws(kumar(plain=None, determined={"gamma_N": False, "C_T": False}))
    assert line.startswith(
        "Added loss: gamma_post = 0.5 (90%: 0.4 to 0.6); not determined by the data: C_T and gamma_N"
    )
    (line,) = of_laws(kumar(plain="", determined=dict.fromkeys(("C_T", "gamma_N", "gamma_post"), False)))
    assert line.startswith("Added loss: not determined by the data: C_T, gamma_N and gamma_post (")


def test_one_size_in_each_family_is_drawn_whole() -> None:
    table = synthetic.table(sizes=(100_000,), formats=(("int", 4, "64"), ("mxint", 3, "32")))
    for family in figures.families(table):
        chart = figures.specification(figures.size_panel(table, family))
        own = table[table["family"] == family]
        low, high = chart["layer"][0]["encoding"]["y"]["scale"]["domain"]
        assert low < own["nll"].min() and own["nll"].max() < high < low + 2.5
        assert all(layer["mark"]["clip"] for layer in chart["layer"])
        assert len(chart["layer"][0]["encoding"]["x"]["axis"]["values"]) >= 2


def test_a_broken_model_of_one_size_does_not_stretch_the_axis() -> None:
    table = synthetic.table(families=("opt",), sizes=(100_000,))
    table.loc[0, "nll"] = 90.0
    low, high = figures.specification(figures.size_panel(table, "opt"))["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert high - low < 2.5


@pytest.mark.parametrize(("low", "high"), [(0.29, 0.33), (0.29, 0.47), (0.9, 2.6), (0.5, 40.0), (1e-5, 3.0), (64, 66)])
def test_every_logarithmic_axis_has_a_few_ticks(low: float, high: float) -> None:
    ticks = scales.log_axis(low, high).to_dict()["values"]
    assert 2 <= len(ticks) <= 12
    assert all(low <= tick <= high for tick in ticks)


def test_medians_are_drawn_over_the_models(table: pd.DataFrame) -> None:
    chart = figures.specification(figures.kind_panel(figures.loss_points(table), "mxint"))
    drawn = [one for one in values_of(chart) if "models" in one]
    assert {one["format"] for one in drawn} == {"mxint3_b32", "mxint4_b32"}
    own = table[(table["format"] == "mxint4_b32") & (table["method"] == "rtn")]["delta_nll"]
    (one,) = (one for one in drawn if one["format"] == "mxint4_b32" and one["method"] == "RTN")
    assert one["drawn"] == pytest.approx(own.median()) and one["models"] == 15


def test_points_off_the_axis_are_marked(table: pd.DataFrame) -> None:
    odd = table[table["format"] != "unquantized"].reset_index(drop=True)
    odd.loc[0, "delta_nll"], odd.loc[1, "delta_nll"] = -0.1, math.nan
    points = figures.loss_points(odd)
    assert list(points["state"][:3]) == [figures.FLOORED, figures.BROKEN, figures.MEASURED]
    drawn = points["drawn"]
    assert drawn[0] == drawn.min() and drawn[1] == drawn.max() and (drawn > 0).all()
    assert drawn[0] < points.loc[2:, "delta_nll"].min() and drawn[1] > points.loc[2:, "delta_nll"].max()


def test_one_point_has_an_axis(table: pd.DataFrame) -> None:
    one = table[table["format"] == "int4_b64"].iloc[:1]
    chart = figures.specification(figures.loss_panel(figures.loss_points(one), "bloom"))
    low, high = chart["layer"][0]["encoding"]["y"]["scale"]["domain"]
    assert low < one["delta_nll"].iloc[0] < high


def test_the_main_figure_is_a_picture(table: pd.DataFrame, tmp_path: Path) -> None:
    figures.save(figures.main_figure(table), tmp_path / "main.png", scale=1.0)
    picture = (tmp_path / "main.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = (int.from_bytes(picture[at : at + 4], "big") for at in (16, 20))
    assert 850 < width < 1100 and 350 < height < 600
    figures.save(figures.main_figure(table), tmp_path / "new" / "main.svg")
    assert (tmp_path / "new" / "main.svg").read_text("utf-8").startswith("<svg")


def test_many_rows_make_a_chart(table: pd.DataFrame) -> None:
    many = pd.concat([table[table["family"] == "opt"]] * 150, ignore_index=True)
    chart = figures.specification(figures.loss_panel(figures.loss_points(many), "opt"))
    drawn = values_of(chart)
    # Whole lines, evenly chosen: each has all of its cells.
    assert scales.MOST_DRAWN / 2 < len(drawn) <= 1.5 * scales.MOST_DRAWN
    by_line = pd.DataFrame(drawn).groupby("line").size()
    lines = figures.loss_points(many).groupby("line").size()
    assert (by_line == lines[by_line.index]).all() and 1 < len(by_line) < len(lines)


def test_fits_without_resamples_have_a_page(table: pd.DataFrame) -> None:
    laws = synthetic.laws(table, bootstraps=0)
    assert laws["laws"]["power_offset"]["fits"][0]["constants"][0]["low"] is None
    assert "no bootstrap" in made(table, laws)


def test_formulas_become_mathml() -> None:
    assert mathml(r"\frac{A}{N^{\alpha}}") == (
        "<math><mrow><mfrac><mrow><mi>A</mi></mrow><mrow><msup><mi>N</mi>"
        "<mrow><mi>\N{GREEK SMALL LETTER ALPHA}</mi></mrow></msup></mrow></mfrac>"
        "</mrow></math>"
    )
    assert mathml("a_1^2 < b") == (
        "<math><mrow><msubsup><mi>a</mi><mn>1</mn><mn>2</mn></msubsup><mo>&lt;</mo><mi>b</mi></mrow></math>"
    )
    assert (
        mathml(r"\gamma_{post}")
        == "<math><mrow><msub><mi>\N{GREEK SMALL LETTER GAMMA}</mi><mtext>post</mtext></msub></mrow></math>"
    )
    with pytest.raises(ValueError, match="sqrt"):
        mathml(r"\sqrt{2}")


def test_columns_hold_the_rows() -> None:
    rows = [{"a": "x", "b": 1.0, "c": None}, {"a": "y", "b": 0.123456789, "c": "z"}, {"a": "x", "b": 2.5, "c": 3}]
    part = packed(rows)
    assert part["columns"]["a"] == {"of": ["x", "y"], "at": [0, 1, 0]}
    rows[1]["b"] = 0.123457
    assert unpacked(part) == rows
    assert packed([]) == {"n": 0, "columns": {}}


def test_every_figure_of_the_page_has_its_pictures(table: pd.DataFrame, laws: dict[str, Any], tmp_path: Path) -> None:
    report_ = report(table, laws, title="T", study="s", keys={})
    pictures.write(report_.figures, tmp_path)
    shown = {of["id"].removeprefix("chart-") for tag, of in Tags(report_.html).tags if of.get("class") == "chart"}
    views = set(re.findall('data-figures="([^"]*)"', report_.html)[0].split())
    assert len(views) == 2 and len(shown) == 15
    assert {path.name for path in tmp_path.iterdir()} == {
        f"{name}{ending}" for name in (shown - {"explorer"}) | views for ending in (".svg", ".png")
    }
    for path in tmp_path.glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    one = (tmp_path / "costs-opt.svg").read_text("utf-8")
    assert "Added loss: opt" in one and "gptq" in one  # titled, and with a legend that the page has elsewhere


def test_json_in_a_script_cannot_end_it() -> None:
    text = script_json({"a": "</script><!--", "b": "&"})
    assert "<" not in text and json.loads(text) == {"a": "</script><!--", "b": "&"}


def test_the_stage_writes_the_page(table: pd.DataFrame, laws: dict[str, Any], tmp_path: Path) -> None:
    write_table(tmp_path / "table.parquet", Header("table", "t", {}, {}, "c"), table)
    write_json(tmp_path / "laws.json", Header("laws", "l", {}, {}, "c"), laws)
    inputs = {"table": (tmp_path / "table.parquet",), "laws": (tmp_path / "laws.json",)}
    header = Header("report", "abc", {"title": "T", "study": "demo"}, {"table": ["t"], "laws": ["l"]}, "c")
    STAGE.run(Job(header, inputs, tmp_path / "out.html", tmp_path / "files"))
    assert "<title>T</title>" in (tmp_path / "out.html").read_text("utf-8")
    assert (tmp_path / "files" / "costs-opt.svg").is_file()


def test_a_law_of_mixed_cells_is_drawn_with_them(table: pd.DataFrame) -> None:
    both = frame([*table.to_dict("records"), *synthetic.mixes(table)])
    drawn = page(both, synthetic.laws(both, names=("cao_weak",)), title="Demo", study="demo", keys={"report": "r" * 32})
    assert "matmul" in drawn and "Cao" in drawn


def test_a_law_of_very_many_fits_has_one_line() -> None:
    law = kumar()
    (record,) = law["laws"].values()
    record["fits"] = record["fits"][:1] * 9
    assert of_laws(law) == [f"{record['title']}: 9 fits, 9 of them better than a constant."]
