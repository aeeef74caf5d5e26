from twisted.application.service import ServiceMaker

netsvc = ServiceMaker("netsvc", "netsvc.tap", "Echo, chat and timestamps for your network.", "netsvc")
