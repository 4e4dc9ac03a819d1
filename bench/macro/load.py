"""A steady load from many kept connections, every answer recorded: for faults, where one failed request
matters and requests per second do not.
"""

import asyncio
import itertools
import time
from dataclasses import dataclass

# Far longer than any answer that this benchmark waits for.
LIMIT_SECONDS = 10


@dataclass(frozen=True)
class Answer:
    """What came of a request. Without an answer the status is 0."""

    begin: float
    seconds: float
    status: int


class Client:
    """One connection, opened again only when the other side has closed it."""

    def __init__(self, port):
        self.port = port
        self.reader = self.writer = None
        self.connections = 0

    async def request(self, method, path, headers=""):
        """Sends a request and returns its answer and the body."""
        begin = time.monotonic()
        status, body = 0, b""
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                status, body = await self._exchange(method, path, headers)
        except (OSError, EOFError, TimeoutError):
            self.close()
        return Answer(begin, time.monotonic() - begin, status), body

    async def _exchange(self, method, path, headers):
        if self.writer is None:
            self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
            self.connections += 1
        length = "Content-Length: 0\r\n" if method == "POST" else ""
        self.writer.write(f"{method} {path} HTTP/1.1\r\nHost: a\r\n{length}{headers}\r\n".encode())
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode().lower()
        length = int(head.split("content-length: ", 1)[1].split("\r\n", 1)[0])
        body = await self.reader.readexactly(length)
        if "\r\nconnection: close" in head:
            self.close()
        return int(head.split(" ", 2)[1]), body

    def close(self):
        if self.writer is not None:
            self.writer.close()
        self.reader = self.writer = None


class Load:
    """Requests of one kind at a steady rate until it is stopped. A connection that waits for an answer sends
    nothing meanwhile, as a browser would; the others go on."""

    ids = itertools.count()

    def __init__(self, port, path, rate, connections, method="GET"):
        self.answers = []
        self.port, self.path, self.method = port, path, method
        pause = connections / rate
        self.tasks = [
            asyncio.create_task(self._run(pause, number * pause / connections)) for number in range(connections)
        ]
        self.stopping = False

    async def _run(self, pause, first):
        client = Client(self.port)
        due = time.monotonic() + first
        while not self.stopping:
            await asyncio.sleep(max(0, due - time.monotonic()))
            headers = f"X-Id: {next(self.ids)}\r\n" if self.method == "POST" else ""
            answer, _ = await client.request(self.method, self.path, headers)
            self.answers.append(answer)
            due = max(due + pause, time.monotonic())
        client.close()

    async def stop(self):
        """Waits for the last answers and returns all."""
        self.stopping = True
        await asyncio.gather(*self.tasks)
        return self.answers
