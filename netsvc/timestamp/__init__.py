"""Timestamps in datagrams, ``[ctime] payload``: format, server and client."""
