"""When the kernel has passed datagrams to the network: SO_TIMESTAMPING (Documentation/networking/timestamping.rst)."""

from __future__ import annotations

import socket
import struct

# From <asm-generic/socket.h>, <linux/net_tstamp.h>, <linux/errqueue.h> and <linux/in.h>.
_SO_TIMESTAMPING = 37
_TX_SOFTWARE, _SOFTWARE, _OPT_ID, _OPT_TSONLY, _OPT_RX_FILTER = 1 << 1, 1 << 4, 1 << 7, 1 << 11, 1 << 17
_ORIGIN_TIMESTAMPING = 4
_SENT = 0  # SCM_TSTAMP_SND
_TIMES = struct.Struct("@qqqqqq")  # three of struct timespec; the first is that of the software
_EXTENDED_ERROR = struct.Struct("@IBBBxII")  # struct sock_extended_err: number, origin, type, code, info, data
_ERROR_MESSAGES = ((socket.IPPROTO_IP, 11), (socket.IPPROTO_IPV6, 25))  # IP_RECVERR and IPV6_RECVERR

#: Bytes that a received datagram needs for one more control message, which older systems add to it.
TRANSMIT_TIMES_SPACE = socket.CMSG_SPACE(_TIMES.size)

_SPACE = TRANSMIT_TIMES_SPACE + socket.CMSG_SPACE(64)  # and struct sock_extended_err with an address


class TransmitTimes:
    """Reads the times at which the datagrams of a UDP socket were sent.

    :param udp: the socket. From now on the kernel notes the times; read them, or the socket is always readable.
    :raises OSError: if the system does not tell them.
    """

    def __init__(self, udp: socket.socket) -> None:
        flags = _TX_SOFTWARE | _SOFTWARE | _OPT_ID | _OPT_TSONLY
        try:
            udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, flags | _OPT_RX_FILTER)
        except OSError:  # before Linux 6.12; received datagrams then have their time twice
            udp.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPING, flags)
        self._socket = udp

    def read(self, maximum: int = 64) -> list[tuple[int, int]]:
        """Return the times that are known by now.

        :param maximum: how many of them. It saves a system call to ask for one that is there.
        :return: the number of the datagram, which counts from 0 since this object was made, modulo 2**32; and the
            nanoseconds since the epoch.
        """
        found = []
        for _ in range(maximum):
            try:
                _, ancillary, _, _ = self._socket.recvmsg(0, _SPACE, socket.MSG_ERRQUEUE)
            except OSError:  # EAGAIN; or an ICMP error, which the next receive tells, too
                break
            time = number = None
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPING):
                    seconds, nanoseconds, *_ = _TIMES.unpack(data)
                    time = seconds * 1_000_000_000 + nanoseconds
                elif (level, kind) in _ERROR_MESSAGES:
                    _, origin, _, _, info, number = _EXTENDED_ERROR.unpack_from(data)
                    if origin != _ORIGIN_TIMESTAMPING or info != _SENT:
                        number = None
            if time and number is not None:
                found.append((number, time))
        return found
