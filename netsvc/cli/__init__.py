"""The ``netsvc`` command: clients, one module a subcommand."""
