"""The table of attacks."""

from __future__ import annotations

from hostile.crowds import crowded_lobby
from hostile.finding import Attack
from hostile.floods import empty_lines, endless_line, line_flood, spoofed_sources, udp_flood, udp_loops
from hostile.handshakes import tls_handshakes
from hostile.http_floods import half_open_upgrades, http_flood, wrong_origins
from hostile.readers import (
    endless_characters,
    kernel_memory,
    stop_under_load,
    stop_with_lines,
    stuck_echoes,
    stuck_member,
    stuck_readers,
)
from hostile.silence import (
    file_limit,
    idle_members,
    idle_tls,
    late_peers,
    many_sources,
    silent_handshakes,
    silent_scrapers,
)
from hostile.system import broadcast, clock_back, clock_forward, failed_calls
from hostile.websockets import (
    endless_fragments,
    idle_web_members,
    json_bombs,
    ping_floods,
    stuck_web_readers,
    wrong_frames,
)

ATTACKS: dict[str, Attack] = {
    attack.__name__.replace("_", "-"): attack
    for attack in (
        # Floods come first. After stuck-echoes the system returns much memory. On a machine with few cores that delays
        # the timers of all processes for half a minute.
        udp_flood,
        udp_loops,
        line_flood,
        empty_lines,
        endless_line,
        http_flood,
        wrong_origins,
        endless_fragments,
        ping_floods,
        wrong_frames,
        json_bombs,
        spoofed_sources,
        crowded_lobby,
        stuck_member,
        stuck_readers,
        stuck_web_readers,
        endless_characters,
        kernel_memory,
        file_limit,
        many_sources,
        silent_scrapers,
        tls_handshakes,
        silent_handshakes,
        half_open_upgrades,
        late_peers,
        clock_forward,
        clock_back,
        failed_calls,
        broadcast,
        stop_under_load,
        stop_with_lines,
        idle_members,
        idle_tls,
        idle_web_members,
        stuck_echoes,
    )
}
