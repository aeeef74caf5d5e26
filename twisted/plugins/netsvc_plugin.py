from twisted.application.reactors import Reactor
from twisted.application.service import ServiceMaker

netsvc = ServiceMaker("netsvc", "netsvc.server.tap", "Echo, chat and timestamps for your network.", "netsvc")
asyncio_native = Reactor("asyncio-native", "netsvc.reactor.asyncio", "netsvc's, on the standard library's event loop.")
uvloop = Reactor("uvloop", "netsvc.reactor.uvloop", "netsvc's, on uvloop's event loop (netsvc[fast]).")
