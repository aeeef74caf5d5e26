"""Datagrams of STAMP for the tests, written out from the figures of RFC 8762 and RFC 8972, and random ones."""

from __future__ import annotations

from hypothesis import strategies as st

from netsvc.stamp.packets import StampAnswer, StampQuestion
from netsvc.stamp.stamp_times import decode_error_estimate

#: 2027-01-15T08:00:00.250000001Z, in nanoseconds since the Unix epoch.
T1 = 1_800_000_000_250_000_001
KEY = bytes(range(32))

# RFC 8972, section 3, figure 1: the question in unauthenticated mode.
QUESTION = bytes.fromhex(
    "00000102"  # sequence number
    "eef45080 40000004"  # timestamp
    "8f84"  # error estimate: S, NTP, scale 15, multiplier 132
    "abcd" + "00" * 28  # SSID  # must be zero
)

# Figure 3: the question in authenticated mode, with PTP's format, without its HMAC.
UNSIGNED_QUESTION = bytes.fromhex(
    "00000102"
    + "00" * 12  # sequence number
    + "6b49d200 0ee6b281"  # timestamp
    "cf84"  # error estimate: S, PTP, scale 15, multiplier 132
    "abcd"  # SSID
     + "00" * 68
)

# Figure 2: the answer in unauthenticated mode. T2 is 2 ms after T1, T3 is 5 ms after it.
ANSWER = bytes.fromhex(
    "00000009"  # sequence number
    "eef45080 4147ae18"  # timestamp
    "1280"  # error estimate: not synchronized, NTP, scale 18, multiplier 128
    "abcd"  # SSID
    "eef45080 40831272"  # receive timestamp
    "00000102"  # session-sender sequence number
    "eef45080 40000004"  # session-sender timestamp
    "8f84"  # session-sender error estimate
    "0000"
    "3f"  # session-sender TTL
    "000000"
)

# Figure 4: the answer in authenticated mode, with PTP's format, without its HMAC.
UNSIGNED_ANSWER = bytes.fromhex(
    "00000009"
    + "00" * 12  # sequence number
    + "6b49d200 0f32fdc1"  # timestamp
    "5280"  # error estimate: not synchronized, PTP, scale 18, multiplier 128
    "abcd"  # SSID
    "00000000"
    "6b49d200 0f053701"  # receive timestamp
    "0000000000000000"
    "00000102"
    + "00"
    * 12  # session-sender sequence number
    + "6b49d200 0ee6b281"  # session-sender timestamp
    "cf84"  # session-sender error estimate
    "000000000000"
    "3f"  # session-sender TTL
     + "00" * 15
)

_sequences = st.integers(0, 2**32 - 1)
_times = st.integers(T1 - 10**18, T1 + 10**18)
_estimates = st.builds(
    decode_error_estimate,
    st.builds(
        lambda flags, scale, multiplier: flags << 14 | scale << 8 | multiplier,
        st.integers(0, 3),
        st.integers(0, 63),
        st.integers(1, 255),
    ),
)
_ssids = st.integers(0, 0xFFFF)

questions = st.builds(StampQuestion, _sequences, _times, _estimates, _ssids, st.binary(max_size=60))
answers = st.builds(
    StampAnswer,
    _sequences,
    _times,
    _estimates,
    _ssids,
    _times,
    _sequences,
    _times,
    _estimates,
    st.integers(0, 255),
    st.binary(max_size=60),
)
