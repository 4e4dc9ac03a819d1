"""The programs that ask: their commands and how their figures are read.

wrk and h2load ask in a closed loop: the next request follows the answer to the last. bench/load asks at a fixed rate, or
by a full TLS handshake each.
"""

import json
import re
from dataclasses import dataclass, field

import crates

REQUESTS, SCRIPT, OPENSSL, LOG = "requests.txt", "load.lua", "openssl.cnf", "h2load.log"

# Streams of each HTTP/2 connection; so many times fewer connections are opened.
STREAMS = 4


class AskError(Exception):
    """The load printed no figures."""


@dataclass(frozen=True)
class Ask:
    """A command, run in the scenario's directory."""

    command: list[str]
    environment: dict = field(default_factory=dict)

    def figures(self, output, directory):
        """From what it printed: the line `figures {...}` of wrk's script and of bench/load."""
        for line in output.splitlines():
            if line.startswith("figures "):
                return json.loads(line.removeprefix("figures "))
        raise AskError(f"no figures:\n{output}")


class H2Ask(Ask):
    def figures(self, output, directory):
        """h2load prints no percentiles; its log has a line `start, status, microseconds` for each answer."""
        counts = re.search(r"^requests: .* (\d+) failed, (\d+) errored, (\d+) timeout", output, re.M)
        seconds = re.search(r"^finished in ([\d.]+)(m?s),", output, re.M)
        traffic = re.search(r"^traffic: .*?\((\d+)\) total", output, re.M)
        if not (counts and seconds and traffic):
            raise AskError(f"no figures:\n{output}")
        if "Application protocol: h2" not in output:
            raise AskError(f"HTTP/2 was not negotiated:\n{output}")
        log = directory / LOG
        lines = [line.split("\t") for line in log.read_text().splitlines()]
        log.unlink()
        times = sorted(int(micros) for _, status, micros in lines if status == "200")
        other = sum(status != "200" for _, status, _ in lines)
        duration = float(seconds[1]) * (1e3 if seconds[2] == "ms" else 1e6)

        def percentile(share):
            return times[min(len(times) - 1, int(len(times) * share))] if times else 0

        return {
            "requests": len(times),
            "duration_us": int(duration),
            "bytes": int(traffic[1]),
            "p50_us": percentile(0.5),
            "p90_us": percentile(0.9),
            "p99_us": percentile(0.99),
            "p999_us": percentile(0.999),
            "max_us": times[-1] if times else 0,
            "errors": {"connect": 0, "read": int(counts[2]), "write": 0, "status": other, "timeout": int(counts[3])},
        }


def closed_loop(scenario, url, seconds, connections, threads):
    """As many requests as the proxy answers."""
    if scenario.load == "h2load":
        many = [f"-t{threads}", f"-c{max(threads, connections // STREAMS)}", f"-m{STREAMS}"]
        return H2Ask(["h2load", *many, f"-D{seconds}", f"--log-file={LOG}", url + scenario.paths[0]])
    if scenario.load == "handshakes":
        address = url.partition("://")[2]
        return Ask([str(crates.path("load")), "handshakes", address, str(seconds), str(connections), REQUESTS])
    path = scenario.paths[0] if len(scenario.paths) == 1 else "/"
    many = [f"-t{threads}", f"-c{connections}", f"-d{seconds}s"]
    environment = {"OPENSSL_CONF": OPENSSL} if scenario.tls else {}
    return Ask(["wrk", *many, "--latency", "-s", SCRIPT, url + path], environment)


def counted(scenario, url, requests):
    """So many requests by HTTP/2."""
    return H2Ask(["h2load", "-t1", "-c8", f"-m{STREAMS}", f"-n{requests}", f"--log-file={LOG}", url + scenario.paths[0]])


def has_fixed_rate(scenario):
    """bench/load speaks HTTP/1.1 on kept connections there."""
    return scenario.load == "wrk" and not scenario.close


def fixed_rate(scenario, url, seconds, connections, rate):
    address = url.partition("://")[2]
    command = [str(crates.path("load")), "rate", address, str(seconds), str(connections), REQUESTS, f"{rate:.0f}"]
    return Ask(command + (["tls"] if scenario.tls else []))
