"""Frames of HTTP/2 (RFC 9113), as bytes: for clients that no library would be."""

import struct

# The client's preface and its empty SETTINGS.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\x04\0\0\0\0\0"
# :method GET, :scheme http, :path / and :authority a (RFC 7541, the last one literal and not indexed).
GET = b"\x82\x86\x84\x01\x01a"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
