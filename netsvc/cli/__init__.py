"""The ``netsvc`` command: clients, one module for each subcommand."""
