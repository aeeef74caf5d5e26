"""The program ``netsvc``, which is ``python -m netsvc`` as well."""

from typing import NoReturn

#: The exit status after Ctrl-C, as in ``netsvc.cli.statuses``, which is not loaded yet.
_INTERRUPTED = 130


def main() -> NoReturn:
    """Run the command line of the process. Ctrl-C ends it silently, even while its modules are loaded."""
    try:
        from netsvc.cli.main import main as run
    except KeyboardInterrupt:
        raise SystemExit(_INTERRUPTED) from None
    run()


if __name__ == "__main__":
    main()
