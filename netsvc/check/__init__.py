"""Checks what gets through to a host: ports that are open, refused, filtered or unreachable, and their TLS."""
