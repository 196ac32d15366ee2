"""How every binary starts and ends: flags, one-line errors, exit codes."""

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from absl import app, flags

from vitok_jax import errors

EXIT_USAGE = 2


def run(main: Callable[[], None]) -> NoReturn:
    """Parses the command line, calls `main` and exits.

    Exit codes: 0 when `main` returns, 2 with one line on stderr for a flag that does not parse and
    for every `UsageError`, 143 when `main` ended early on SIGTERM (raised as `SystemExit`).

    Args:
      main: the program; reads `absl.flags.FLAGS`.
    """

    def without_arguments(arguments: Sequence[str]) -> None:
        if arguments:
            raise errors.UsageError(
                f"unexpected argument {arguments[0]!r}; every option starts with --"
            )
        main()

    run_with_arguments(without_arguments)


def run_with_arguments(main: Callable[[Sequence[str]], None]) -> NoReturn:
    """Like `run`, for a program that also takes arguments without dashes.

    Args:
      main: the program; it is given these arguments, and reads `absl.flags.FLAGS`.
    """

    def guarded(argv: Sequence[str]) -> None:
        try:
            main(argv[1:])
        except errors.UsageError as error:
            _fail(str(error))

    app.run(guarded, flags_parser=_parse)


def require(*names: str) -> None:
    """Raises `UsageError` unless every named flag was given a value."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise errors.UsageError(f"--{name} is missing")


def _parse(argv: Sequence[str]) -> list[str]:
    # absl exits with 1, and config flags raise AttributeError, KeyError or IOError with a
    # traceback, for what is one thing to a user: a command line that is wrong.
    try:
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        _fail(str(error))
    except errors.UsageError as error:
        _fail(str(error))
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        _fail(str(error.args[0] if isinstance(error, KeyError) and error.args else error))


def _fail(message: str) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(EXIT_USAGE)
