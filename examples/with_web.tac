"""A larger application: netsvc, and a web page that shows the number of members in the chat.

    twistd -n -y with_web.tac

The ports are 1314 (echo), 1400 (chat) and 8080 (web). The environment variables ECHO, CHAT and WEB change them.
"""

import os

from netsvc import ChatFactory, ChatHub, Config, StreamService, Terms, netsvc_service
from twisted.application.service import Application
from twisted.application import strports
from twisted.internet import reactor
from twisted.web.resource import Resource
from twisted.web.server import Site


class Page(Resource):
    """Shows the number of members."""

    isLeaf = True

    def __init__(self, hub):
        super().__init__()
        self._hub = hub

    def render_GET(self, request):
        request.setHeader("content-type", "text/plain; charset=utf-8")
        return f"{len(self._hub)} in the chat\n".encode()


application = Application("netsvc and a page")

# The echo service, configured with the same strings as on the command line.
netsvc_service(reactor, Config(tcp=[os.environ.get("ECHO", "1314")])).setServiceParent(application)

# The chat is composed from its parts, because the page needs the hub.
terms = Terms.on(reactor)
hub = ChatHub(terms)
where = os.environ.get("CHAT", "1400")
StreamService(reactor, [where], ChatFactory(terms, hub)).setServiceParent(application)

web = f"tcp:{os.environ.get('WEB', '8080')}:interface=127.0.0.1"
strports.service(web, Site(Page(hub)), reactor=reactor).setServiceParent(application)
