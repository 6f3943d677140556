"""The entry point: finds the sub-command, runs it, and turns a user's mistake into one line and exit code 2."""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

import bitlaw
from bitlaw.cli import COMMANDS
from bitlaw.errors import UserError, unknown

# What a user can mend outside of bitlaw: permissions and space.
_SURROUNDINGS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}

_DESCRIPTION = """\
bitlaw measures what a language model loses when its weights are stored in fewer bits, and fits the laws
that say it beforehand. A study (params.yaml, studies/*.yaml) names models, number formats and rounding methods;
every combination becomes a cached result in results/, and report/index.html shows what came out.

Run a study with `snakemake --cores N` or `dvc repro`; the commands here look at studies and results."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process) and return the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _complain(str(error))
    except BrokenPipeError:
        # The reader, `head` say, has seen enough. What Python still flushes at its end must go somewhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        _complain("stopped; what was made is kept")
        return 130
    except OSError as error:
        if error.errno not in _SURROUNDINGS:
            raise
        return _complain(f"{error.filename or 'results'}: {str(error.strerror).lower()}")


def _run(arguments: list[str]) -> int:
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if name is not None and name not in COMMANDS:
        raise unknown("command", name, COMMANDS)
    parser = _parser(name)
    options = parser.parse_args(arguments)
    if name is None:
        parser.print_help()
        return 0
    return COMMANDS[name].run(options)


def _complain(message: str) -> int:
    print(f"bitlaw: {message}", file=sys.stderr)
    return 2


class _Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line, like all others."""

    given: Sequence[str] = ()

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options. Raises ``UserError`` for an argument that is not known, with the nearest one that is."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            raise getattr(options, "parser", self).no_such(rest[0])
        return options

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the options and what is left; remember ``args`` for ``error``."""
        self.given = args or ()
        return super().parse_known_args(args, namespace)

    def no_such(self, argument: str) -> UserError:
        """Return the complaint about an argument that there is not."""
        return unknown("argument", argument, self._names(), place=self._place())

    def _names(self) -> list[str]:
        return [option for action in self._actions for option in action.option_strings]

    def _place(self) -> str | None:
        return self.prog.removeprefix("bitlaw").strip() or None

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End after a help text; one that nobody reads to its end is noticed here and not when Python ends."""
        sys.stdout.flush()
        super().exit(status, message)

    def error(self, message: str) -> NoReturn:
        """Raise ``UserError``, for an option that there is not before all else: it may be what seems to be missing."""
        for one in self.given:
            name = one.partition("=")[0]
            if len(name) > 2 and name.startswith("--") and not any(known.startswith(name) for known in self._names()):
                raise self.no_such(one)
        raise UserError(f"{message}; see `{self.prog} --help`", place=self._place())


def _parser(name: str | None) -> _Parser:
    plain = argparse.RawDescriptionHelpFormatter
    parser = _Parser(
        prog="bitlaw",
        description=_DESCRIPTION,
        epilog="`bitlaw COMMAND --help` explains a command.",
        formatter_class=plain,
    )
    if name is None:
        parser.add_argument("--version", action="version", version=f"bitlaw {bitlaw.__version__}")
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
        own.set_defaults(parser=own)
    return parser


if __name__ == "__main__":
    sys.exit(main())
