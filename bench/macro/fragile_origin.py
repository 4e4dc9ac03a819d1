"""An origin to be killed, frozen and started again: one process, one port, standard library only.

    fragile_origin.py ADDRESS PORT

Prints `ready` once it listens, then the value of X-Id of each POST as soon as it has come, before the
answer: what was printed outlives a kill. `/slow` is answered after 20 ms, so that some requests are always
in flight, everything else at once. The body is the address.
"""

import asyncio
import os
import sys

SLOW_SECONDS = 0.02


class Connection(asyncio.Protocol):
    def __init__(self, answer):
        self.answer = answer
        self.received = b""

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.received += data
        while (end := self.received.find(b"\r\n\r\n")) >= 0:
            # Requests of this benchmark have no body.
            head, self.received = self.received[:end], self.received[end + 4 :]
            method, target, _ = head.split(b" ", 2)
            if method == b"POST":
                fields = head.lower().split(b"\r\nx-id: ", 1)
                os.write(1, fields[1].split(b"\r\n", 1)[0] + b"\n")
            if target.startswith(b"/slow"):
                asyncio.get_running_loop().call_later(SLOW_SECONDS, self.transport.write, self.answer)
            else:
                self.transport.write(self.answer)


async def main():
    address, port = sys.argv[1], int(sys.argv[2])
    body = address.encode()
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(answer), address, port)
    os.write(1, b"ready\n")
    await server.serve_forever()


asyncio.run(main())
