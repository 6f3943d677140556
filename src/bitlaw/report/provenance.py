"""Where the page's numbers come from, and what they cost: keys, texts, settings, and how much was computed."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import words
from bitlaw.report.html import power, scroll
from bitlaw.table import UNQUANTIZED, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd


def section(table: pd.DataFrame, laws: Mapping[str, Any], study: Any, keys: Mapping[str, Any]) -> str:
    """Return the HTML of the section: see ``bitlaw.report.page.page`` for the arguments."""
    lines = "".join(
        f'<tr><td>{escape(name)}</td><td class="words"><code>{escape(str(value))}</code></td></tr>'
        for name, value in facts(table, laws, keys)
    )
    text = study if isinstance(study, str) else json.dumps(study, indent=1, sort_keys=True, ensure_ascii=False)
    spent = "".join(f"<tr><td>{escape(what)}</td><td class=n>{power(much)}</td></tr>" for what, much in cost(table))
    return (
        '<section id="provenance"><h2>Provenance and cost</h2>'
        '<p class="soft">What was computed for this page. The same cells cost the same on every machine in this count; '
        "the time they took on yours is no part of a result, so that equal results make equal pages: "
        "<code>snakemake --report</code> shows the time of each stage.</p>"
        f'<div class="card">{scroll("Cost", f"<table><tbody>{spent}</tbody></table>")}</div>'
        f'<div class="card below">{scroll("Provenance", f"<table><tbody>{lines}</tbody></table>")}'
        f'<details><summary>Study</summary><pre tabindex="0">{escape(text)}</pre></details></div></section>'
    )


def cost(table: pd.DataFrame) -> list[tuple[str, str]]:
    """Return what the cells of ``table`` took, as far as it tells: what, and how much.

    A forward pass is counted as two operations for each parameter and token (Kaplan et al. 2020, section 2.1, without
    the attention's part that depends on the context).
    """
    quantized = table[table["format"] != UNQUANTIZED]
    tokens = table["eval_tokens"].fillna(0).astype("float64")
    operations = float((2.0 * table["n_params"].astype("float64") * tokens).sum())
    calibrated = quantized[quantized["calibration_samples"].notna()]
    rows = [
        ("losses measured", f"{len(table):,}"),
        ("tokens predicted for them", words.count(float(tokens.sum()))),
        ("operations of these forward passes, about", words.number(operations, 3)),
        ("models in a format by a method", f"{_distinct(whole(quantized)):,}"),
    ]
    if mixed := _distinct(quantized) - _distinct(whole(quantized)):
        rows.append(("mixes of two precisions", f"{mixed:,}"))
    if len(calibrated):
        each = calibrated.drop_duplicates(["model", "calibration_text", "calibration_samples", "calibration_length"])
        passed = each["calibration_samples"].astype("float64") * each["calibration_length"].astype("float64")
        rows += [("models calibrated", f"{each['model'].nunique():,}")]
        rows += [("tokens of calibration", words.count(float(passed.sum())))] if passed.notna().all() else []
    return rows


def facts(table: pd.DataFrame, laws: Mapping[str, Any], keys: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return what determines the page, by name: keys, hashes of texts, windows, settings of methods and laws."""
    found: list[tuple[str, str]] = []
    for role, key in keys.items():
        found += [(f"key of the {role}", one) for one in ([key] if isinstance(key, str) else key)]
    for kind in ("text", "calibration_text"):
        hashes = table[[kind, f"{kind}_sha256"]].dropna().drop_duplicates().sort_values(kind)
        found += [
            (f"{kind.replace('_', ' ')} {name}", f"SHA-256 {value}") for name, value in hashes.itertuples(index=False)
        ]
    for window, stride in table[["window", "stride"]].drop_duplicates().sort_values("window").itertuples(index=False):
        found.append(("evaluation", f"windows of {window} tokens, stride {stride}"))
    for name, value in (
        table[["method", "settings"]].drop_duplicates().sort_values(["method", "settings"]).itertuples(index=False)
    ):
        found += [] if name == "none" else [(f"method {name}", str(value))]
    found += [(f"law {name}", json.dumps(record["settings"], sort_keys=True)) for name, record in laws["laws"].items()]
    return found


def _distinct(rows: pd.DataFrame) -> int:
    """Return how many configurations ``rows`` have, whatever they were evaluated on."""
    same = ["model", "format", "method", "settings", "mix", "high", "select", "select_settings", "q_target", "trial"]
    return len(rows[same].drop_duplicates())
