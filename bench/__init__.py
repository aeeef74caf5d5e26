"""Benchmarks: netsvc and its reactors beside comparable servers. Each module is a command."""
