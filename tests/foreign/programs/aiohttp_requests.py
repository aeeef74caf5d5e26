"""Serve and fetch 200 pages, two web sockets and a stream with aiohttp and httpx: ``aiohttp_requests.py REACTOR``."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module

import aiohttp
import httpx
from aiohttp import web

import_module(sys.argv[1]).install()

from twisted.internet.defer import Deferred, ensureDeferred  # noqa: E402  after the reactor is installed
from twisted.internet.task import react  # noqa: E402

PAGES = 200
LARGE = b"x" * 3_000_000


async def page(request: web.Request) -> web.Response:
    await asyncio.sleep(0)
    return web.Response(body=await request.read() or LARGE)


async def socket(request: web.Request) -> web.WebSocketResponse:
    answer = web.WebSocketResponse()
    await answer.prepare(request)
    async for message in answer:
        await answer.send_str(message.data.upper())
    return answer


async def requests() -> str:
    """Use a server of aiohttp with three clients. Returns what they have received."""
    application = web.Application()
    application.add_routes([web.get("/", page), web.post("/", page), web.get("/socket", socket)])
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    url = f"http://{host}:{port}"

    async with aiohttp.ClientSession() as session:

        async def post(number: int) -> int:
            async with session.post(url, data=str(number)) as answer:
                return int(await answer.text())

        numbers = await asyncio.gather(*map(post, range(PAGES)))
        async with session.ws_connect(f"{url}/socket") as talk:
            await talk.send_str("hello")
            said = await talk.receive_str()
    async with httpx.AsyncClient() as client:
        size = len((await client.get(url)).content)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nhi")
    last = (await reader.read()).split(b"\r\n\r\n")[1]
    writer.close()
    await writer.wait_closed()
    await runner.cleanup()
    return f"{len(numbers)} pages, {sum(numbers)}, {said}, {size} bytes, {last!r}"


def main(reactor: object) -> Deferred[None]:
    async def run() -> None:
        got = await Deferred.fromFuture(asyncio.ensure_future(requests()))
        sys.stdout.write(f"{got} on {type(reactor).__name__}\n")

    return ensureDeferred(run())


react(main)
