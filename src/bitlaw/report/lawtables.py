"""The laws as HTML: formula, constants beside the published ones, how well they fit, and what they do not tell."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

from bitlaw.report import words
from bitlaw.report.comparison import trust
from bitlaw.report.headline import label
from bitlaw.report.html import power, scroll
from bitlaw.report.mathml import mathml

if TYPE_CHECKING:
    from collections.abc import Mapping


def section(record: Mapping[str, Any]) -> str:
    """Return the HTML of one law, an entry of the laws artifact."""
    settings = record["settings"]
    about = f"Formula of {escape(record['name'])}"
    parts = [
        f'<div class="card law"><h3>{escape(record["title"])} <code>{escape(record["name"])}</code></h3>',
        f'<div class="formula" tabindex="0" role="region" aria-label="{about}">{formula(record["formula"])}</div>',
        f'<p class="soft">{escape(record["source"])}. Fitted on <code>{escape(record["target"])}</code>: '
        f"sum of Huber losses of log residuals, "
        f"threshold {words.number(settings['huber'])}, best of {settings['starts']} starts. "
        "R² is that of the logarithms.</p>",
        _left_out(record),
        *(_fit(record, fit) for fit in record["fits"]),
        "</div>",
    ]
    return "\n".join(parts)


def comparison(found: Mapping[str, Any]) -> str:
    """Return the HTML of the comparison of laws; empty if there is nothing to compare."""
    if not found["groups"]:
        return ""
    head, *rows = [line.strip("| ").split(" | ") for line in trust([found]).splitlines() if "---" not in line]
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in rows)
    words_of_it = (
        'Mean absolute error in nats per token on cells that were held out. "Same cell" is the mean of other models in '
        'the same format, "bit-level curves" interpolate losses against all bits of a model; clear: models drawn anew '
        f"agree in 95 %. {found['rule']}"
    )
    return "\n".join(
        [
            '<div class="card law"><h3>Which law to trust where</h3>',
            f'<p class="soft">{escape(words_of_it)}</p>',
            scroll("Laws compared", f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"),
            "</div>",
        ]
    )


def formula(latex: str, *, display: bool = True) -> str:
    """Return ``latex`` as MathML, or as its source where a command is not known."""
    try:
        return mathml(latex, display=display)
    except ValueError:
        return f"<code>{escape(latex)}</code>"


def _left_out(record: Mapping[str, Any]) -> str:
    parts = []
    if record["excluded"]:
        items = "".join(f"<li>{count:,}: {escape(reason)}</li>" for reason, count in record["excluded"].items())
        parts.append(f'<div class="note">Rows left out:<ul>{items}</ul></div>')
    for entry in record["not_fitted"]:
        what = label(record, entry["by"]).strip(" ()")
        name, rows = f"{escape(what)}: " if what else "", words.plural(entry["rows"], "row")
        parts.append(f'<div class="bad-note">Not fitted. {name}{escape(entry["reason"])} ({rows}).</div>')
    return "".join(parts)


def _fit(record: Mapping[str, Any], fit: Mapping[str, Any]) -> str:
    r2 = "none" if fit["r2"] is None else f"{fit['r2']:.4f}"
    name = label(record, fit["by"]).strip(" ()") or "One fit"
    facts = (
        f"{fit['n']} points, {fit['fitted_constants']} constants, {fit['df']} degrees of freedom; R² {r2}; "
        f"root mean square of log residuals {words.number(fit['rmse_log'], 3)}."
    )
    intervals = f"Intervals: {fit['interval']:.0%}, from {fit['bootstrap']}."
    return "\n".join(
        [
            f'<div class="fit"><h3>{escape(name)}</h3><p>{escape(facts)}</p>',
            _warnings(fit["warnings"]),
            _constants(fit),
            _groups(fit["groups"]),
            f'<p class="soft">{escape(" ".join([intervals, *fit["notes"]]))}</p></div>',
        ]
    )


def _warnings(warnings: list[str]) -> str:
    items = "".join(f"<li>{escape(warning)}</li>" for warning in warnings)
    return f'<div class="warn" role="note">Warnings<ul>{items}</ul></div>' if warnings else ""


def _constants(fit: Mapping[str, Any]) -> str:
    published = any(constant["published"] is not None for constant in fit["constants"])
    last = '<th class="n">published</th>' if published else ""
    numbers = (
        f'<th class="n">value</th><th class="n">{fit["interval"]:.0%} interval</th><th class="n">profile</th>{last}'
    )
    head = f"<th>constant</th><th></th>{numbers}<th>meaning</th>"
    rows = []
    for constant in fit["constants"]:
        interval = "held" if constant["held"] else words.MISSING
        if constant["low"] is not None:
            interval = f"{words.number(constant['low'])} to {words.number(constant['high'])}"
        profile = words.MISSING
        if constant["profile"] is not None:
            ends = ["open" if end is None else words.number(end) for end in constant["profile"]]
            profile = f"{ends[0]} to {ends[1]}"
        flag = ' <span class="flag">at bound</span>' if constant["at_bound"] else ""
        beside = f'<td class="n">{power(words.number(constant["published"]))}</td>' if published else ""
        rows.append(
            f"<tr><td>{formula(constant['latex'], display=False)}</td><td>{escape(constant['group'] or '')}</td>"
            f'<td class="n">{power(words.number(constant["value"]))}{flag}</td>'
            f'<td class="n">{power(interval)}</td><td class="n">{power(profile)}</td>{beside}'
            f'<td class="words">{escape(constant["meaning"])}</td></tr>'
        )
    return scroll("Constants", f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")


def _groups(groups: list[Mapping[str, Any]]) -> str:
    if len(groups) < 2:
        return ""
    each = (f"{g['name']} {'none' if g['r2'] is None else format(g['r2'], '.4f')} ({g['n']} points)" for g in groups)
    return f"<p>R² within each: {escape('; '.join(each))}.</p>"
