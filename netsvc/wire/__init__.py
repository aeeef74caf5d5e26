"""Bytes to values and back: text, framing, addresses, PROXY headers. Pure."""
