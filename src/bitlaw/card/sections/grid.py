"""What the study holds, what it ran on, and what it took."""

from __future__ import annotations

from bitlaw.card.base import Made, Section, Study, table
from bitlaw.report import words
from bitlaw.table import UNQUANTIZED, element_kind, is_mixed


def make(study: Study) -> Made:
    """Return the counts."""
    rows = study.table
    models, quantized = rows.drop_duplicates("model"), rows[rows["format"] != UNQUANTIZED]
    low, high = words.count(models["n_params"].min()), words.count(models["n_params"].max())
    formats = quantized.drop_duplicates("format")
    kinds = element_kind(formats).value_counts().sort_index()
    texts = rows.drop_duplicates(["text", "window"])
    methods = quantized.drop_duplicates(["method", "settings"]).groupby("method", sort=True).size()
    mixed = int(is_mixed(rows).sum())
    lines = [
        ("cells", f"{len(rows):,}" + (f", {mixed:,} of them mixes of two precisions" if mixed else "")),
        ("models", f"{len(models)} of {models['family'].nunique()} families, {low} to {high} parameters"),
        ("formats", f"{len(formats)}: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"),
        ("methods", ", ".join(_method(str(name), int(count)) for name, count in methods.items())),
        ("texts", "; ".join(f"{one.text}, {_tokens(one)} in windows of {one.window}" for one in texts.itertuples())),
        ("not finite", f"{int((~rows['finite']).sum()):,} cells"),
    ]  # fmt: skip
    if tasks := sorted(str(name) for name in rows["tasks"].dropna().unique()):
        lines.append(("zero-shot tasks", "; ".join(tasks)))
    for name in ("device", "torch", "transformers", "bitlaw"):
        if name in rows and rows[name].notna().any():
            counts = rows[name].value_counts()
            lines.append(
                (
                    name,
                    "; ".join(
                        f"{value}, {n:,} cells" if len(counts) > 1 else str(value) for value, n in counts.items()
                    ),
                )
            )
    lines += _took(study)
    return Made(table(("what", "how much"), lines))


def _method(name: str, settings: int) -> str:
    return words.method(name) + (f" in {settings} settings" if settings > 1 else "")


def _tokens(one: object) -> str:
    import pandas as pd

    count = getattr(one, "eval_tokens", None)
    return "tokens not told" if count is None or pd.isna(count) else f"{count:,} tokens"


def _took(study: Study) -> list[tuple[str, str]]:
    rows = study.table
    if "seconds" not in rows or rows["seconds"].isna().all():
        return []
    known = rows.dropna(subset="seconds")
    whole = float(known["seconds"].sum())
    by = known.groupby("method", sort=True)["seconds"].mean()
    each = ", ".join(f"{words.method(str(name))} {1000 * value:.3g} ms" for name, value in by.items() if name != "none")
    found = [
        ("time", f"{whole / 60:.1f} min of processes for {len(known):,} cells, {whole / len(known):.3g} s each"),
        ("a cell", each),
    ]
    if rows["dollars"].notna().any():
        found.append(("cost", f"{rows['dollars'].sum():.2f} US dollars"))
    return found


SECTION = Section(
    order=10,
    title="What is in it",
    says=(
        "Parameters do not count embeddings. Time is the wall time of quantizing and evaluating, summed over the "
        "processes of the run; training is not in it. What cells share, such as calibration, is counted once."
    ),
    make=make,
)
