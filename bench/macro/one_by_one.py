"""Clients that send one request at a time and wait for its answer: for counting, not for speed."""

import socket
import subprocess

# Under valgrind all is slow.
ANSWER_SECONDS = 60


class Clients:
    """Kept connections that take turns, one request at a time."""

    def __init__(self, port, connections):
        self.sockets = [socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS) for _ in range(connections)]
        self.sent = 0

    def send(self, requests, count):
        for _ in range(count):
            connection = self.sockets[self.sent % len(self.sockets)]
            connection.sendall(requests[self.sent % len(requests)])
            read_answer(connection)
            self.sent += 1


class Http2Clients:
    """Connections of HTTP/2 over TLS (h2load), for each part new ones, with one request at a time on each."""

    def __init__(self, port, connections, path):
        self.command = ["h2load", "-t1", f"-c{connections}", "-m1", f"https://127.0.0.1:{port}{path}"]

    def send(self, _, count):
        done = subprocess.run([*self.command, f"-n{count}"], capture_output=True, text=True, check=True).stdout
        if f" {count} succeeded" not in done or "Application protocol: h2" not in done:
            raise SystemExit(f"not all requests were answered:\n{done}")


def read_answer(connection):
    received = b""
    while b"\r\n\r\n" not in received:
        received += part(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").lower().split("\r\n")
    if lines[0].split()[1] != "200" or "connection: close" in lines:
        raise SystemExit(f"the answer is not what the scenario expects:\n{head.decode('latin-1')}")
    length = next(int(line.partition(":")[2]) for line in lines if line.startswith("content-length:"))
    missing = length - len(body)
    while missing > 0:
        missing -= len(part(connection))


def part(connection):
    received = connection.recv(65536)
    if not received:
        raise SystemExit("the connection was closed")
    return received
