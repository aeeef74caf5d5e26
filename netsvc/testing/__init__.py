"""Test Twisted services on a simulated network with latency, loss, split streams, crashes and partitions.

No test opens a real socket.
"""

from netsvc.testing.fault_search import FaultReport, chaos, replay, sweep
from netsvc.testing.faults import Fault, FaultError
from netsvc.testing.global_reactor import install
from netsvc.testing.host_reactor import HostReactor
from netsvc.testing.link import Conditions, LinkError
from netsvc.testing.network import Host, Links, Network, NetworkError, NoResultError
from netsvc.testing.not_simulated import NotSimulatedError
from netsvc.testing.stack import HostDownError
from netsvc.testing.trace import Trace
from netsvc.testing.trace_event import TraceEvent

__all__ = [
    "Conditions",
    "Fault",
    "FaultError",
    "FaultReport",
    "Host",
    "HostDownError",
    "HostReactor",
    "LinkError",
    "Links",
    "Network",
    "NetworkError",
    "NoResultError",
    "NotSimulatedError",
    "Trace",
    "TraceEvent",
    "chaos",
    "install",
    "replay",
    "sweep",
]
