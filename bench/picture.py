"""A picture of what ``python -m bench --json FILE`` measured: ``python -m bench.picture FILE PICTURE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.works import WORKS

#: Works that are drawn, and the servers, whichever of them did the work.
DRAWN = ("fifty", "10k", "pieces", "tls", "udp", "chat200x1", "chat200x16")
SERVERS = (
    (("c",), "C, epoll", "#777777"),
    (("go",), "Go", "#b0b0b0"),
    (("uvloop_protocol",), "uvloop Protocol", "#7fb069"),
    (
        ("netsvc_chat_uvloop", "netsvc_stamp_uvloop", "netsvc_echo_uvloop", "netsvc_uvloop"),
        "netsvc, UvloopReactor",
        "#1f5fa8",
    ),
    (
        ("netsvc_chat_asyncio", "netsvc_stamp_asyncio", "netsvc_echo_asyncio", "netsvc_asyncio"),
        "netsvc, AsyncioReactor",
        "#79a9dd",
    ),
    (("twisted_epoll",), "Twisted, EPollReactor", "#d1495b"),
)


def main(measured: str, picture: str) -> int:
    """Draw CPU time as a share of stock Twisted's: shorter is better."""
    results = json.loads(Path(measured).read_text())
    works = [name for name in DRAWN if "twisted_epoll" in results.get(name, {})]
    figure, axes = pyplot.subplots(figsize=(9, 1.1 * len(works) + 1))
    height = 0.8 / len(SERVERS)
    for row, (names, label, colour) in enumerate(SERVERS):
        shares, places = [], []
        for place, work in enumerate(works):
            runs = results[work]
            stock = median(runs["twisted_epoll"]["cpu"])
            for name in names:
                if name in runs:
                    shares.append(median(runs[name]["cpu"]) / stock)
                    places.append(place + (row - (len(SERVERS) - 1) / 2) * height)
                    break
        axes.barh(places, shares, height * 0.95, label=label, color=colour)
    axes.set_yticks(range(len(works)), [WORKS[work].title.replace(": one delivery", "") for work in works])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.6)
    axes.set_xlabel("CPU time for each message, of stock Twisted's; longer bars are cut")
    axes.axvline(1, color="#d1495b", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, ncols=3, loc="lower center", bbox_to_anchor=(0.4, 1.0))
    figure.tight_layout()
    figure.savefig(picture)
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m bench.picture FILE PICTURE")
    sys.exit(main(*sys.argv[1:]))
