"""``python -m netsvc`` is the ``netsvc`` command."""

from netsvc.cli.main import main

main()
