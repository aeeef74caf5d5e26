"""``python -m netsvc`` is the ``netsvc`` command."""

from netsvc.cli.main import main

if __name__ == "__main__":
    main()
