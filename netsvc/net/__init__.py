"""Connections, sockets and ports on Twisted: what every service needs and no service owns."""
