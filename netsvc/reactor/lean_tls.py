"""TLS for the connections of a fast reactor: Twisted's TLS layer, with less work for each message.

Twisted drives OpenSSL through pyOpenSSL: for each message it allocates two buffers of 32 KiB, raises and catches two
exceptions, and schedules a timer. :class:`LeanTLS` calls the same functions of OpenSSL directly while nothing special
happens. Handshakes, shutdown, producers and errors stay Twisted's code.

The reactor chooses the class when it listens or connects (:func:`use_lean_tls`) and after ``startTLS``
(:meth:`LeanTLS.adopt`). If Twisted, pyOpenSSL or cryptography lacks a name that it needs, Twisted's own TLS stays.
"""

from __future__ import annotations

from typing import Any

from netsvc.reactor.private_names import TLS_NAMES, missing_names

#: The functions and constants of OpenSSL that are used, by cryptography's names.
OPENSSL_NAMES = (
    *("BIO_write", "BIO_read", "BIO_get_mem_data"),
    *("SSL_read", "SSL_write", "SSL_get_error", "SSL_ERROR_WANT_READ"),
)

try:
    from cryptography.hazmat.bindings.openssl.binding import Binding
    from twisted.internet.endpoints import _WrappingFactory
    from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory, TLSMemoryBIOProtocol
except ImportError:  # pyOpenSSL is not installed, and nothing uses TLS
    AVAILABLE = False
else:
    AVAILABLE = not list(missing_names(TLS_NAMES)) and all(hasattr(Binding.lib, name) for name in OPENSSL_NAMES)

#: Bytes of the buffer that a reactor reads decrypted and encrypted bytes into. A record has 16 KiB at most.
BUFFER_SIZE = 131_072

#: Bytes that OpenSSL is given at a time. It keeps what it was given until the end of the connection.
RECEIVE_MAX = 32_768

#: Bytes of a record.
RECORD_MAX = 16_384

#: Bytes that are encrypted before the result is read, which then fits into the buffer.
ENCRYPT_MAX = 6 * RECORD_MAX

#: Bytes that wait to be encrypted at most, as in Twisted.
UNENCRYPTED_MAX = 64_000

if AVAILABLE:
    _lib: Any = Binding.lib
    _ffi: Any = Binding.ffi

    class LeanTLS(BufferingTLSTransport):
        """A TLS connection whose transport belongs to a fast reactor.

        Written bytes are encrypted when the reactor sends: at the end of the iteration, or after this read if only this
        connection is active.
        """

        transport: Any
        _tlsConnection: Any
        _reactor: Any

        def makeConnection(self, transport: Any) -> None:
            if hasattr(getattr(transport, "reactor", None), "encrypt_soon"):
                self._prepare(transport.reactor)
            else:  # the factory is used with another reactor
                self.__class__ = BufferingTLSTransport  # type: ignore[assignment]
            BufferingTLSTransport.makeConnection(self, transport)

        @staticmethod
        def adopt(tls: BufferingTLSTransport) -> bool:
            """Make a TLS connection of Twisted's class lean.

            :return: False if the application has replaced its method ``write``. Then nothing is changed.
            """
            if tls.write != tls._aggregator.write:
                return False
            tls._aggregator.close()
            tls.__class__ = LeanTLS
            transport: Any = tls.transport
            tls._prepare(transport.reactor)
            return True

        def _prepare(self, reactor: Any) -> None:
            self._reactor = reactor
            self._unread: list[bytes | memoryview] = []
            self._unencrypted: list[bytes | memoryview] = []
            self._unencrypted_size = 0
            del self.write  # of this instance: Twisted sets it to that of its aggregator

        def dataReceived(self, bytes: bytes) -> None:  # noqa: A002  Twisted's name
            connection = self._tlsConnection
            unread = self._unread  # not empty if a protocol lets the reactor iterate while it receives
            unread.append(bytes)
            if not self._handshakeDone or self._appSendBuffer or self._lostTLSConnection:
                received = b"".join(unread)
                unread.clear()
                super().dataReceived(received)
                return
            ssl, into_ssl, from_ssl = connection._ssl, connection._into_ssl, connection._from_ssl
            reactor = self._reactor
            buffer, address = reactor.tls_buffer, reactor.tls_address
            while unread:
                piece = unread.pop(0)
                if len(piece) > RECEIVE_MAX:
                    view = memoryview(piece)
                    piece = view[:RECEIVE_MAX]
                    unread.insert(0, view[RECEIVE_MAX:])
                _lib.BIO_write(into_ssl, _ffi.from_buffer(piece), len(piece))
                while True:
                    size = _lib.SSL_read(ssl, buffer, BUFFER_SIZE)
                    if size <= 0:
                        if _lib.SSL_get_error(ssl, size) != _lib.SSL_ERROR_WANT_READ:
                            self._flushReceiveBIO()  # gets the same end or error again, and handles it
                    elif not self._aborted:
                        self.wrappedProtocol.dataReceived(_ffi.unpack(buffer, size))
                    if self._lostTLSConnection or self._tlsConnection is not connection:
                        return
                    if size <= 0 or _lib.BIO_get_mem_data(into_ssl, address) == 0:
                        break
            if _lib.BIO_get_mem_data(from_ssl, address) > 0:  # an answer in a renegotiation of TLS 1.2, say
                self._flushSendBIO()

        def write(self, bytes: bytes) -> None:  # noqa: A002  Twisted's name
            self._unencrypted.append(bytes + b"")  # raises TypeError if it is not bytes
            self._unencrypted_size += len(bytes)
            if self._unencrypted_size > UNENCRYPTED_MAX:
                self.encrypt()
            elif len(self._unencrypted) == 1:
                self._reactor.encrypt_soon(self)

        def writeSequence(self, iovec: Any) -> None:
            self.write(b"".join(iovec))

        def encrypt(self) -> None:
            """Encrypt what was written, and pass it to the transport."""
            self._reactor.unencrypted.pop(self, None)
            try:
                self._encrypt_all()
            finally:  # a producer may raise an exception when it is paused
                if self._unencrypted:
                    self._reactor.encrypt_soon(self)

        def _encrypt_all(self) -> None:
            unencrypted = self._unencrypted
            is_accepted = True
            while unencrypted:
                data = unencrypted[0] if len(unencrypted) == 1 else b"".join(unencrypted)
                unencrypted.clear()
                self._unencrypted_size = 0
                if (
                    is_accepted
                    and self._handshakeDone
                    and not (self._appSendBuffer or self._lostTLSConnection or self.disconnecting)
                ):
                    is_accepted = self._encrypt(data)
                else:
                    TLSMemoryBIOProtocol.write(self, bytes(data))  # gets the same error again, and handles it

        def _encrypt(self, data: bytes | memoryview) -> bool:
            """Encrypt the first ``ENCRYPT_MAX`` bytes, and pass them to the transport. The others stay unencrypted.

            :return: whether OpenSSL has accepted them.
            """
            connection = self._tlsConnection
            ssl, from_ssl = connection._ssl, connection._from_ssl
            buffer = self._reactor.tls_buffer
            unencrypted = _ffi.from_buffer(data)
            start, end = 0, min(ENCRYPT_MAX, len(data))
            size = 1
            while start < end and size > 0:
                size = _lib.SSL_write(ssl, unencrypted + start, min(RECORD_MAX, end - start))
                start += max(size, 0)
            encrypted = _lib.BIO_read(from_ssl, buffer, BUFFER_SIZE)
            if start < len(data):
                # The transport may pause a producer, which then writes or closes. These bytes come before.
                self._unencrypted.append(memoryview(data)[start:])
                self._unencrypted_size = len(data) - start
            if encrypted > 0:
                self.transport.write(_ffi.unpack(buffer, encrypted))
            return size > 0

        def loseConnection(self) -> None:
            self.encrypt()
            TLSMemoryBIOProtocol.loseConnection(self)

        def unregisterProducer(self) -> None:
            self.encrypt()
            super().unregisterProducer()

        def connectionLost(self, reason: Any = None) -> None:
            if self._tlsConnection is not None and not self._lostTLSConnection:
                for piece in self._unread:  # the end was read in a nested iteration
                    self._tlsConnection.bio_write(piece)
            self._unread.clear()
            super().connectionLost(reason)


def new_buffer() -> tuple[Any, Any]:
    """Return a buffer of ``BUFFER_SIZE`` bytes, and the address of a pointer, for the calls of OpenSSL."""
    return (_ffi.new("char[]", BUFFER_SIZE), _ffi.new("char **")) if AVAILABLE else (None, None)


def use_lean_tls(factory: Any) -> None:
    """Let a factory create lean TLS connections, if it would create those of Twisted.

    :param factory: the factory that the reactor was given; others are left as they are.
    """
    if not AVAILABLE:
        return
    if isinstance(factory, _WrappingFactory):  # of an endpoint
        factory = factory._wrappedFactory
    if isinstance(factory, TLSMemoryBIOFactory) and factory.protocol is BufferingTLSTransport:
        factory.protocol = LeanTLS


def make_tls_lean(tls: Any) -> bool:
    """Make a TLS connection of Twisted's class, or of a subclass whose methods are done, lean.

    :return: whether that is possible.
    """
    return AVAILABLE and LeanTLS.adopt(tls)


def is_stock_tls(tls: Any) -> bool:
    """Return whether an object is a TLS connection of Twisted's own class."""
    return AVAILABLE and type(tls) is BufferingTLSTransport
