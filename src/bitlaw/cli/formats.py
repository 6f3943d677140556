"""bitlaw formats: the number formats there are, what each costs and how well it holds normal numbers."""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatchcase
from typing import Any, Final

from bitlaw.cli.base import Command
from bitlaw.errors import UserError
from bitlaw.formats import grammar
from bitlaw.formats.base import Format

_SHAPE: Final = (4096, 4096)
_COLUMNS: Final = ("format", "bits", "effective bits", "GMSE", "scale", "oracle")


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="names or patterns such as 'mxfp*_b32'; without, the usual formats")
    parser.add_argument("--names", action="store_true", help="print names only; without a name, all there are")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _run(options: argparse.Namespace) -> int:
    names = _chosen(options.name, everything=options.names)
    if options.names:
        print("\n".join(names))
        return 0
    rows = [_describe(grammar.parse(name)) for name in names]
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = [_COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[i]) for line in table) for i in range(len(_COLUMNS))]
    for line in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    if not options.name:
        count = len(grammar.known_names())
        print(f"\nMore blocks and options: {count} names in all, see 'bitlaw formats --names'.")
    return 0


def _chosen(patterns: list[str], everything: bool) -> list[str]:
    """Return canonical names. Raises ``UserError`` for a name that none has and a pattern that none matches."""
    if not patterns:
        return grammar.known_names() if everything else grammar.usual_names()
    names: list[str] = []
    for pattern in patterns:
        if any(sign in pattern for sign in "*?["):
            found = [name for name in grammar.known_names() if fnmatchcase(name, pattern)]
            if not found:
                raise UserError(f"no number format matches '{pattern}'; 'bitlaw formats --names' lists all")
            names += found
        else:
            names.append(str(grammar.parse(pattern)))
    return list(dict.fromkeys(names))


def _describe(fmt: Format) -> dict[str, Any]:
    from bitlaw.formats.gmse import gmse

    return {
        "format": str(fmt),
        "kind": fmt.kind,
        "element": fmt.element.name,
        "bits": fmt.bits,
        "block": fmt.block,
        "axis": fmt.axis,
        "effective_bits": fmt.effective_bits(_SHAPE),
        "gmse": gmse(fmt),
        "scale_rule": fmt.scale_rule,
        "scale_dtype": fmt.scale_dtype,
        "centered": fmt.centered,
        "rounding": fmt.rounding,
        "zero_policy": fmt.zero_policy,
        "nan_policy": fmt.nan_policy,
        "oracle": fmt.oracle,
    }


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    scale = f"{row['scale_rule']}, {row['scale_dtype']}"
    return (row["format"], str(row["bits"]), f"{row['effective_bits']:.4f}", f"{row['gmse']:.3e}", scale, row["oracle"])


COMMAND = Command(
    summary="list the number formats: bits, error on normal numbers, oracle",
    description="""\
Print a line for each number format: the bits of a code; effective bits, all that a weight of a 4096 x 4096 matrix takes
with its share of scales and tables, equal to what is packed; GMSE, the relative mean squared error on standard normal
numbers; the scale rule and how a scale is stored; and the independent implementation that tests compare with.
Without names, each element's most usual format.""",
    epilog="""\
examples:
  bitlaw formats
  bitlaw formats 'mxfp4*' nf4_b64
  bitlaw formats --names | grep mxint4
  bitlaw formats int4_g128_asym --json""",
    arguments=_arguments,
    run=_run,
)
