"""bitlaw formats: the number formats there are."""

from __future__ import annotations

import argparse

from bitlaw.cli.base import Command
from bitlaw.formats import grammar


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="*", help="explain these formats (default: list all names)")


def _run(options: argparse.Namespace) -> int:
    if not options.name:
        print("\n".join(grammar.known_names()))
        return 0
    for name in options.name:
        fmt = grammar.parse(name)
        print(f"{fmt}: element {fmt.element}, {fmt.bits} bits, block {fmt.block}, scale {fmt.scale_rule}")
        print(f"  {fmt.effective_bits((4096, 4096)):.6g} bits a weight in a 4096 x 4096 matrix")
    return 0


COMMAND = Command(
    summary="list the number formats, or explain some",
    description="""\
Without names, list the names of all number formats. With names, say how each stores weights, and how many bits a
weight takes in a 4096 x 4096 matrix with its share of the scales.""",
    epilog="""\
examples:
  bitlaw formats | grep mxint4
  bitlaw formats int4_b64 mxint4_b32""",
    arguments=_arguments,
    run=_run,
)
