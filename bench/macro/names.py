"""A name server for one name with one address, over UDP (RFC 1035)."""

import socket
import struct
import threading

A, IN = 1, 1


class NameServer:
    """Answers every question for an A record with `address` until it is changed, all others with nothing."""

    def __init__(self, address, ttl_seconds):
        self.address, self.ttl_seconds = address, ttl_seconds
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            query, client = self.socket.recvfrom(1500)
            end = query.index(b"\0", 12) + 5
            (kind,) = struct.unpack("!H", query[end - 4 : end - 2])
            records = int(kind == A)
            reply = query[:2] + struct.pack("!HHHHH", 0x8180, 1, records, 0, 0) + query[12:end]
            if records:
                # The name is the question's, which begins at byte 12.
                reply += struct.pack("!HHHIH", 0xC00C, A, IN, self.ttl_seconds, 4) + socket.inet_aton(self.address)
            self.socket.sendto(reply, client)
