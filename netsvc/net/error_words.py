"""The errors of the system in words, each with what to do about it."""

from __future__ import annotations

import errno
import os

from netsvc.wire.zones import needs_zone

_LOOKUP = "netsvc lookup lists the addresses of this host"

#: The remedies if a connection or a datagram fails.
_REMEDIES = {
    errno.ENETUNREACH: "this host has no route there; ip route shows its routes",
    errno.EHOSTUNREACH: "the host is down, or a router or firewall rejects the packets",
    errno.EHOSTDOWN: "the host is down",
    errno.EACCES: "this is a broadcast address, or a rule of this host forbids it; ip route shows its routes",
    errno.EPERM: "a firewall of this host forbids it",
    errno.EADDRNOTAVAIL: f"no local port is free, or the address cannot be used from here; {_LOOKUP}",
    errno.EMFILE: "close some files, or raise the limit with ulimit -n",
    errno.ENFILE: "close some files of this host, or raise fs.file-max",
    errno.EAFNOSUPPORT: "this host has no IPv6; choose an IPv4 address, or -4",
    errno.EMSGSIZE: "choose a shorter message",
    errno.ENODEV: "netsvc lookup lists the interfaces of this host",
    errno.EINVAL: "a route of this host discards the packets; ip route shows its routes",
}

#: The same if the local address or port cannot be used.
_BIND_FAILURES = {
    errno.EADDRINUSE: "already in use; choose another source port, or none",
    errno.EADDRNOTAVAIL: f"this host has no such address; {_LOOKUP}",
    errno.EACCES: "ports below 1024 are reserved for root; choose a source port above 1023",
    errno.EINVAL: "the address is of another family, or needs its interface, as in fe80::1%eth0",
}


def error_words(number: int) -> str:
    """Return the words for an error number, such as ``network is unreachable``; nothing for 0."""
    return _within_sentence(os.strerror(number)) if number else ""


def failure_words(failure: OSError) -> str:
    """Return the words for an error of the system, such as ``no space left on device``."""
    return _within_sentence(failure.strerror or str(failure))


def connect_failure(number: int, host: str) -> str:
    """Return the words for the failure to reach ``host``, and the remedy if one is known; nothing for the number 0."""
    if number == errno.EINVAL and "%" not in host and needs_zone(host):
        return f"the address is valid on one link only; name the interface, as in {host}%eth0"
    if number == errno.ENODEV and "%" in host:
        return f"this host has no interface {host.partition('%')[2]}; {_REMEDIES[number]}"
    return _with_remedy(error_words(number), _REMEDIES.get(number))


def bind_failure(number: int) -> str:
    """Return the words for the failure to use a local address, and the remedy if one is known; nothing for 0."""
    return _BIND_FAILURES.get(number) or _with_remedy(error_words(number), _REMEDIES.get(number))


def _within_sentence(words: str) -> str:
    """Return words with a small first letter, unless they begin with an abbreviation."""
    first = words.partition(" ")[0]
    return words[:1].lower() + words[1:] if first[1:].islower() or len(first) == 1 else words


def _with_remedy(problem: str, remedy: str | None) -> str:
    return f"{problem}; {remedy}" if remedy else problem
