"""Test Twisted services on a network in memory: with delay, loss, cuts, crashes and partitions, and no socket."""

from netsvc.testing.host_reactor import HostReactor
from netsvc.testing.link import Conditions, LinkError
from netsvc.testing.network import Host, Links, Network, NetworkError
from netsvc.testing.stack import HostDownError
from netsvc.testing.trace import Event, Trace

__all__ = [
    "Conditions",
    "Event",
    "Host",
    "HostDownError",
    "HostReactor",
    "LinkError",
    "Links",
    "Network",
    "NetworkError",
    "Trace",
]
