"""How every binary starts and ends: flags, one-line errors, exit codes."""

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging

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
        _quiet_other_packages()
        try:
            main(argv[1:])
        except errors.UsageError as error:
            _fail(str(error))

    app.run(guarded, flags_parser=_parse)


def _quiet_other_packages() -> None:
    # Orbax tells ten lines about every checkpoint that it reads, and warns (0.12.8) of a metadata
    # file that it never writes for a single item. Our own lines have a logger of their own.
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
    logger = logging.get_absl_logger()
    logger.addFilter(lambda record: "_CHECKPOINT_METADATA" not in record.getMessage())


def require(*names: str) -> None:
    """Raises `UsageError` unless every named flag was given a value."""
    for name in names:
        if not flags.FLAGS[name].value:
            raise errors.UsageError(f"--{name} is missing")


def given(*holders: flags.FlagHolder) -> dict[str, Any]:
    """Values of those of the flags that the command line names."""
    return {holder.name: holder.value for holder in holders if holder.present}


def refuse(beside: str, *names: str) -> None:
    """Raises `UsageError` if the command line names one of the flags, which would not be read.

    Args:
      beside: what the flags do not go with, for the message.
      names: of the flags.
    """
    for name in names:
        if flags.FLAGS[name].present:
            raise errors.UsageError(f"--{name} does not go with {beside}, which does not read it")


def require_one(*names: str) -> None:
    """Raises `UsageError` unless exactly one of the named flags was given a value."""
    given = [name for name in names if flags.FLAGS[name].value]
    if len(given) != 1:
        found = " and ".join(f"--{name}" for name in given) or "none"
        allowed = " or ".join(f"--{name}" for name in names)
        raise errors.UsageError(f"{found} given; allowed: one of {allowed}")


def _parse(argv: Sequence[str]) -> list[str]:
    # absl exits with 1, and config flags raise AttributeError, KeyError or IOError with a
    # traceback, for what is one thing to a user: a command line that is wrong.
    try:
        _check_config_files(argv)
        return flags.FLAGS(list(argv))
    except flags.Error as error:
        _fail(str(error))
    except errors.UsageError as error:
        _fail(str(error))
    except (AttributeError, KeyError, TypeError, ValueError, OSError) as error:
        _fail(str(error.args[0] if isinstance(error, KeyError) and error.args else error))


def _check_config_files(argv: Sequence[str]) -> None:
    """Loads every config file that the command line names, and looks for the keys it overrides.

    `config_flags` would tell of an error in the file by a traceback, of a missing file only when
    the config is read, and of an unknown key by the key's last part alone.
    """
    known = flags.FLAGS._flags()
    given: list[tuple[str, str]] = []
    for argument, following in zip(argv[1:], [*argv[2:], ""], strict=False):
        if argument.startswith("-"):
            name, equals, value = argument.lstrip("-").partition("=")
            given.append((name, value if equals else following))
    for name, path in given:
        parser = known[name].parser if name in known else None
        if parser is None or type(parser).__name__ != "ConfigFileFlagParser":
            continue
        config = _loaded(name, path)
        for key, _ in given:
            if key.startswith(f"{name}."):
                _check_key(config, key)


def _loaded(name: str, path: str) -> Any:
    location, _, argument = path.partition(":")
    if not os.path.isfile(location):
        raise errors.UsageError(f"--{name}: there is no file {location!r}")
    try:
        module = runpy.run_path(location)
        return module["get_config"](argument or None)
    except errors.UsageError:
        raise
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        raise errors.UsageError(f"--{name}: {location} is no config file: {reason}") from error


def _check_key(config: Any, flag: str) -> None:
    path = flag.split(".")
    for depth, key in enumerate(path[1:], start=1):
        key = key.partition("[")[0]  # one entry of a tuple
        allowed = list(config.keys()) if hasattr(config, "keys") else []
        if key not in allowed:
            raise errors.unknown(f"--{'.'.join(path[:depth])}, key", key, allowed or ["none"])
        config = config[key]


def _fail(message: str) -> NoReturn:
    print("error: " + " ".join(message.split()), file=sys.stderr, flush=True)
    sys.exit(EXIT_USAGE)
