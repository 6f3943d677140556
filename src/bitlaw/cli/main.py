"""The entry point: finds the sub-command, runs it, and turns a user's mistake into one line and exit code 2."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from bitlaw.cli import COMMANDS
from bitlaw.errors import UserError, unknown

_DESCRIPTION = """\
bitlaw measures what a language model loses when its weights are stored in fewer bits, and fits the laws
that say it beforehand. A study (params.yaml, studies/*.yaml) names models, number formats and rounding methods;
every combination becomes a cached result in results/, and report/index.html shows what came out.

Run a study with `snakemake --cores N` or `dvc repro`; the commands here look at studies and results."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        name = arguments[0] if arguments and not arguments[0].startswith("-") else None
        if name is not None and name not in COMMANDS:
            raise unknown("command", name, COMMANDS)
        parser = _parser(name)
        options = parser.parse_args(arguments)
        if name is None:
            parser.print_help()
            return 0
        return COMMANDS[name].run(options)
    except UserError as error:
        print(f"bitlaw: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()  # the reader, `head` say, has seen enough
        return 0


def _parser(name: str | None) -> argparse.ArgumentParser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="bitlaw",
        description=_DESCRIPTION,
        epilog="`bitlaw COMMAND --help` explains a command.",
        formatter_class=plain,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=False)
    for each in COMMANDS if name is None else [name]:
        command = COMMANDS[each]
        own = commands.add_parser(
            each,
            help=command.summary,
            description=command.description,
            epilog=command.epilog,
            formatter_class=plain,
        )
        command.arguments(own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
