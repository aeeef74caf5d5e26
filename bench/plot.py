"""Plot the figures of ``python -m bench --json FILE``: ``python -m bench.plot FILE PICTURE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.workloads import WORKLOADS

#: The workloads in the plot.
PLOTTED = ("fifty", "10k", "pieces", "tls", "udp", "chat200x1", "chat200x16")

#: The rows of the plot: names of servers, label, colour. The first of the names that was measured is plotted.
SERVERS = (
    (("c",), "C, epoll", "#777777"),
    (("go",), "Go", "#b0b0b0"),
    (("uvloop_protocol",), "uvloop Protocol", "#7fb069"),
    (
        ("netsvc_chat_uvloop", "netsvc_timestamp_uvloop", "netsvc_echo_uvloop", "netsvc_uvloop"),
        "netsvc, UvloopReactor",
        "#1f5fa8",
    ),
    (
        ("netsvc_chat_asyncio", "netsvc_timestamp_asyncio", "netsvc_echo_asyncio", "netsvc_asyncio"),
        "netsvc, AsyncioReactor",
        "#79a9dd",
    ),
    (("twisted_epoll",), "Twisted, EPollReactor", "#d1495b"),
)


def main(figures: str, picture: str) -> int:
    """Plot the CPU time relative to stock Twisted: shorter is better."""
    results = json.loads(Path(figures).read_text())
    workloads = [name for name in PLOTTED if "twisted_epoll" in results.get(name, {})]
    figure, axes = pyplot.subplots(figsize=(9, 1.1 * len(workloads) + 1))
    height = 0.8 / len(SERVERS)
    for row, (names, label, colour) in enumerate(SERVERS):
        shares, places = [], []
        for place, workload in enumerate(workloads):
            servers = results[workload]
            stock = median(servers["twisted_epoll"]["cpu"])
            for name in names:
                if name in servers:
                    shares.append(median(servers[name]["cpu"]) / stock)
                    places.append(place + (row - (len(SERVERS) - 1) / 2) * height)
                    break
        axes.barh(places, shares, height * 0.95, label=label, color=colour)
    axes.set_yticks(range(len(workloads)), [WORKLOADS[name].title.replace(": one delivery", "") for name in workloads])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6)
    axes.set_xlabel("CPU time for each message, relative to stock Twisted (bars above 1.6 are truncated)")
    axes.axvline(1, color="#d1495b", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    figure.tight_layout()
    figure.savefig(picture)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m bench.plot FILE PICTURE")
    sys.exit(main(*sys.argv[1:]))
