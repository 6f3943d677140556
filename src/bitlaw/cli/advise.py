"""bitlaw advise: which model, format and method for a budget, what is lost, and how sure that is."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from bitlaw.cli.base import Command
from bitlaw.cli.tables import add_tables, own, write_section
from bitlaw.errors import UserError

if TYPE_CHECKING:
    import pandas as pd

    from bitlaw.advise.advise import Advice
    from bitlaw.advise.question import Choice, Question
    from bitlaw.predictor.known import Known

SHOWN = 12


def _arguments(parser: argparse.ArgumentParser) -> None:
    asked = parser.add_argument_group("the question")
    asked.add_argument("--budget", metavar="SIZE", help="memory for weights, keys and values: 6GiB, 24 (GiB), 80GB")
    asked.add_argument(
        "--delta-nll", type=float, metavar="NATS", help="loss that may be added to the best candidate's, nats per token"
    )
    asked.add_argument("--time", metavar="TIME", help="time that quantizing may take, on one A100: 30min, 2h")
    asked.add_argument(
        "--model", action="append", metavar="NAME", dest="models", default=[],
        help="a candidate: a folder, a name, owner/name of the hub, a size such as 7b, or NAME=SIZE; may be given "
        "several times (default: all models of the table)",
    )  # fmt: skip
    asked.add_argument("--engine", default="any", metavar="NAME", help="vllm, llama.cpp, transformers or any (default)")
    asked.add_argument("--format", action="append", metavar="NAME", dest="formats", default=[], help="allow only this")
    asked.add_argument("--method", action="append", metavar="NAME", dest="methods", default=[], help="allow only this")
    asked.add_argument("--context", type=int, default=2048, metavar="TOKENS", help="of a sequence (default: 2048)")
    asked.add_argument("--batch", type=int, default=1, metavar="N", help="sequences at once (default: 1)")
    asked.add_argument("--kv-bits", type=float, default=16, metavar="BITS", help="of keys and values (default: 16)")
    asked.add_argument(
        "--nll", action="append", metavar="NAME=NATS", default=[], help="a candidate's unquantized loss, if you know it"
    )
    asked.add_argument("--task", metavar="NAME", help="which zero-shot accuracy (default: the one most is known of)")
    asked.add_argument("--mixed", action="store_true", help="a format for each linear of the best model")
    shown = parser.add_argument_group("the answer")
    shown.add_argument("--top", type=int, default=SHOWN, metavar="N", help=f"rows to print (default: {SHOWN})")
    shown.add_argument("--json", action="store_true", help="print JSON, with all rows")
    shown.add_argument("--csv", action="store_true", help="print all rows as CSV")
    shown.add_argument("--check", action="store_true", help="test advice on the published results, and print a table")
    shown.add_argument("--write", metavar="PAGE:SECTION", help="with --check: put the table into a Markdown page")
    parser.add_argument("--seed", type=int, default=0, help="of the fits (default: 0)")
    add_tables(parser)


def _run(options: argparse.Namespace) -> int:
    from bitlaw.advise.advise import advise
    from bitlaw.advise.command import command
    from bitlaw.advise.mixed import assign

    if options.check:
        return _check(options)
    if options.budget is None and options.delta_nll is None:
        raise UserError("say what there is, --budget 6GiB, or what may be lost, --delta-nll 0.05")
    table, text, known = _table(options)
    question, names = _question(options, table, text, known)
    found = advise(table, question)
    root = _project(options.root)
    told = names[found.best.known.name]
    told = told if Path(told).exists() else told.partition("=")[0]
    studied, results = (False, None) if root is None else (_studied(found.best, root), root / "results")
    made = command(found.best, question.engine, told, studied=studied)
    mixed = assign(found, question, results).as_json() if options.mixed else None
    if options.json:
        print(json.dumps({**found.as_json(), "make": made, **({"mixed": mixed} if mixed else {})}, indent=1))
    elif options.csv:
        _print_csv(found)
    else:
        from bitlaw.advise.show import show

        show(found, question, made, mixed, top=options.top)
    return 0


def _table(options: argparse.Namespace) -> tuple[pd.DataFrame, str | None, dict[str, Known]]:
    """Return the results to learn from and the evaluation, as `bitlaw predict` takes them, and the models named."""
    from bitlaw.advise.models import candidate
    from bitlaw.predictor import training

    if options.table is not None:
        table = training.read(options.table)
        return table, options.text, {one: candidate(one, table) for one in options.models}
    usual = training.Usual(own(options.root))
    known = {one: candidate(one, usual.whole) for one in options.models}
    return *usual.for_sizes([one.n_params for one in known.values()], options.text), known


def _question(
    options: argparse.Namespace, table: pd.DataFrame, text: str | None, known: dict[str, Known]
) -> tuple[Question, dict[str, str]]:
    """Return the question about the models ``known``, or all, and by model's name how the user named it."""
    from bitlaw.advise import effort, engine, memory
    from bitlaw.advise.models import candidate
    from bitlaw.advise.question import Question
    from bitlaw.predictor.cells import collect

    if options.context < 1 or options.batch < 1 or options.kv_bits < 0:
        raise UserError("--context and --batch must be at least 1, and --kv-bits not negative")
    if not known:
        known = {one: candidate(one, table) for one in sorted(set(collect(table, text=text).rows["model"].astype(str)))}
    names = {each.name: one for one, each in known.items()}
    question = Question(
        models=tuple({each.name: each for each in known.values()}.values()),
        engine=engine(options.engine),
        budget=memory.read_size(options.budget) if options.budget is not None else None,
        tolerance=options.delta_nll,
        seconds=effort.read_time(options.time) if options.time is not None else None,
        formats=tuple(options.formats),
        methods=tuple(options.methods),
        context=options.context,
        batch=options.batch,
        cache_bits=options.kv_bits,
        nll=dict(_loss(one, names) for one in options.nll),
        text=text,
        task=options.task,
        seed=options.seed,
    )
    return question, names


def _loss(text: str, names: dict[str, str]) -> tuple[str, float]:
    """Return model and loss that ``NAME=NATS`` says."""
    from bitlaw.errors import unknown

    name, _, value = text.rpartition("=")
    by_name = {**{one: one for one in names}, **{told: one for one, told in names.items()}}
    if name not in by_name:
        raise unknown("candidate", name or text, by_name, place="--nll")
    try:
        return by_name[name], float(value)
    except ValueError:
        raise UserError(f"'{value}' is no loss in nats per token", place=f"--nll {text}") from None


def _project(root: str | None) -> Path | None:
    """Return the project folder, if there is one."""
    from bitlaw.study.load import find_root

    try:
        return find_root(Path(root) if root else None)
    except UserError:
        if root is not None:
            raise
        return None


def _studied(choice: Choice, root: Path) -> bool:
    """Return whether the study of the project in ``root`` has the cell."""
    from bitlaw.export.cell import find_cell
    from bitlaw.study.grid import expand
    from bitlaw.study.load import load_study

    try:
        loaded = load_study(root)
        if (choice.format, choice.method) not in {(fmt, method.name) for fmt, method in loaded.study.pairs}:
            return False
        find_cell(expand(loaded), choice.known.name, choice.format, choice.method, {})
    except UserError:
        return False
    return True


def _print_csv(found: Advice) -> None:
    import csv
    import sys

    rows = found.as_json()["choices"]
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**row, "extrapolates": "; ".join(row["extrapolates"])})


def _check(options: argparse.Namespace) -> int:
    from bitlaw.advise.check import check, lines, markdown

    found = check(options.seed)
    if options.json:
        print(json.dumps(found, indent=1))
    elif options.write:
        path, _, section = options.write.partition(":")
        write_section(Path(path), section, markdown(found))
        print(f"wrote {len(found['groups'])} rows into {path}")
    else:
        print("\n".join(lines(found)))
    return 0


COMMAND = Command(
    summary="say which model, format and method to take for a budget of memory",
    description="""\
Say which of some models to take in which format by which method, for an amount of memory or a loss that may be added,
what it loses, and how sure that is. Cells that were measured are taken as they are, all others are predicted from the
published results, or the reference study if its models are nearer in size, with the project's own on the same
evaluation text; or from --table. Nothing is run. Of a repository of
the hub that is not known the configuration is asked for; without network its name must tell its size.""",
    epilog="""\
examples:
  bitlaw advise --budget 6GiB --model llama-7b --model llama-13b --engine vllm
  bitlaw advise --budget 24 --model facebook/opt-30b --model opt-13b --context 8192 --batch 4 --time 1h
  bitlaw advise --delta-nll 0.05 --model ../my-model --table report/table.parquet --mixed
  bitlaw advise --budget 6GiB --model my-model=8b --engine llama.cpp --json""",
    arguments=_arguments,
    run=_run,
)
