"""The origin (bench/origin): starts it, reads its counts."""

import json
import subprocess
import urllib.request
from dataclasses import dataclass

from processes import StartError


@dataclass(frozen=True)
class Counts:
    """What the origin has received, by port."""

    requests: dict
    connections: dict
    refused: int

    def __sub__(self, other):
        return Counts(
            {port: n - other.requests[port] for port, n in self.requests.items()},
            {port: n - other.connections[port] for port, n in self.connections.items()},
            self.refused - other.refused,
        )

    def total(self):
        return sum(self.requests.values())

    def share(self, ports):
        """Share of the requests that came in on `ports`."""
        total = self.total()
        return sum(self.requests[port] for port in ports) / total if total else 0.0


class Origin:
    def __init__(self, programs, path, cpus, directory, note, count):
        self.program = programs.start(
            [str(path), str(count)], cpus, directory, note, stdout=subprocess.PIPE
        )
        line = self.program.child.stdout.readline()
        if not line:
            raise StartError(f"the origin did not start{self.program.last_words()}")
        self.ports = json.loads(line)["ports"]

    def counts(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[0]}/__count", timeout=10) as answer:
            data = json.load(answer)
        return Counts(
            {port["port"]: port["requests"] for port in data["ports"]},
            {port["port"]: port["connections"] for port in data["ports"]},
            data["refused"],
        )
