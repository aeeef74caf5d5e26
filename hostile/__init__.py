"""Attacks on a server, and what they do to everybody else: ``python -m hostile``."""
