"""Daytime (RFC 867): the server sends the date and time, and closes."""
