"""A scenario from start to end: starts everything, checks every proxy, measures in rounds, ends everything."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import asking
import crates
import origin as origins
import report
from changes import Changer
from check import SHARE_MAX, SHARE_MIN, check, check_change, check_share
from peers import DIRECT, Peer, Setup
from processes import Program, StartError, busy_seconds, cpu_numbers, free_ports, wait_until_ready
from scenarios import requests_file, wrk_script
from secure import CERTIFICATE, KEY, OPENSSL_CONF, PAIR, make_certificate

# A port found free can be taken before its program binds it.
START_TRIES = 3

# The load counts only complete answers, the origin also those cut off at the end, and what the warm-up left: one each for
# each connection.
# Anything beyond that and this part of the requests means that a proxy repeats requests or answers itself.
COUNT_TOLERANCE = 0.002

# While the share changes each second, the mean over a round may be this far from what was asked for: a change takes a
# moment, and the load is not the same each second.
CHANGING_TOLERANCE = 0.06

# Seconds of the same load before a round is measured.
WARM_UP_SECONDS = 1

# The fixed rate is so much of what the slowest proxy answers in the closed loop.
RATE_OF_SLOWEST = 0.6


@dataclass(frozen=True)
class Running:
    """A proxy that is measured; the baseline without one has neither peer nor program."""

    name: str
    setup: Setup
    peer: Peer | None = None
    program: Program | None = None
    home: Path | None = None


class Run:
    def __init__(self, args, programs, work):
        self.args = args
        self.programs = programs
        self.work = work
        self.origin_binary = crates.build("origin")
        crates.build("load")
        if any(peer.name == "bare" for peer in args.peers):
            crates.build("bare")
        make_certificate(work)
        self.proxy_cpus = cpu_numbers(args.proxy_cpus)
        self.load_cpus = cpu_numbers(args.load_cpus)
        self.all_cpus = sorted({*self.proxy_cpus, *self.load_cpus})
        self.pinned_apart = not set(self.proxy_cpus) & set(self.load_cpus)

    def scenario(self, scenario):
        say(f"\n{scenario.name}: {scenario.title}")
        directory = self.work / "run" / scenario.name
        origin_directory = directory / "origin"
        origin_directory.mkdir(parents=True)
        self.write_load(scenario, directory)
        origin = origins.Origin(
            self.programs,
            self.origin_binary,
            self.args.load_cpus,
            origin_directory,
            f"{scenario.name}/origin",
            scenario.ports,
        )
        topology = scenario.topology(origin.ports)

        peers = {}
        measured = []
        for peer in self.args.peers:
            if not peer.can(scenario):
                continue
            result = {"title": peer.title, "problems": [], "rounds": [], "rate_rounds": []}
            peers[peer.name] = result
            try:
                running = self.start(peer, scenario, topology, directory)
            except StartError as error:
                result["problems"].append(f"did not start: {error}")
                say(f"  {peer.title:13} did not start: {error}")
                continue
            result["pss_start"], result["rss_start"] = running.program.memory()
            problems, facts = self.check(running, scenario, directory, origin)
            result["check"] = facts
            result["problems"] += problems
            if problems:
                say(f"  {peer.title:13} FAILED the check, is not measured: {'; '.join(problems)}")
                self.programs.stop(running.program)
            else:
                say(f"  {peer.title:13} does the same work: {described(facts)}")
                measured.append(running)
        # The origin speaks no TLS.
        if self.args.direct and not scenario.tls:
            peers[DIRECT] = {"title": "direct", "problems": [], "rounds": [], "rate_rounds": []}
            measured.append(Running(DIRECT, Setup(scenario, topology, origin.ports[0], 0, 0)))

        if not self.args.check:
            self.rounds(scenario, directory, origin, measured, peers)
        self.programs.stop_all()
        result = {
            "name": scenario.name,
            "title": scenario.title,
            "workers": self.args.workers,
            "pinned_apart": self.pinned_apart,
            "changes": scenario.changes,
            "peers": peers,
        }
        report.finish(result)
        return result

    def rounds(self, scenario, directory, origin, measured, peers):
        """First as fast as each can, then all at one rate. Each round begins with another proxy, so that none always
        follows the same one."""
        for number in range(1, self.args.rounds + 1):
            for running in rotated(measured, number):
                record = self.measure(scenario, directory, origin, running, number)
                peers[running.name]["rounds"].append(record)
        for running in measured if scenario.changes else []:
            if running.program:
                self.settle(running, origin, peers[running.name])
        rate = self.rate(scenario, measured, peers)
        for number in range(1, self.args.rounds + 1) if rate else []:
            for running in rotated(measured, number):
                record = self.measure(scenario, directory, origin, running, number, rate)
                peers[running.name]["rate_rounds"].append(record)
        for peer in peers.values():
            for kind, rounds in (("round", peer["rounds"]), ("fixed rate, round", peer["rate_rounds"])):
                for record in rounds:
                    peer["problems"] += [f"{kind} {record['round']}: {problem}" for problem in record["problems"]]

    def rate(self, scenario, measured, peers):
        """Requests per second that every proxy can answer."""
        if not asking.has_fixed_rate(scenario) or self.args.rate == 0:
            return None
        if self.args.rate:
            return self.args.rate
        slowest = min(
            (
                median(record["requests_per_second"] for record in peers[running.name]["rounds"])
                for running in measured
                if running.program
            ),
            default=0,
        )
        return round(slowest * RATE_OF_SLOWEST, -2) or None

    def config_directory(self, scenario, peer=None):
        directory = self.work / "config" / scenario.name
        directory = directory / peer.name if peer else directory
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def write_load(self, scenario, directory):
        """What wrk and bench/load send, and what OpenSSL's clients offer."""
        for home in (directory, self.config_directory(scenario)):
            (home / asking.SCRIPT).write_text(wrk_script(scenario))
            if scenario.tls:
                (home / asking.OPENSSL).write_text(OPENSSL_CONF)
        (directory / asking.REQUESTS).write_bytes(requests_file(scenario))

    def start(self, peer, scenario, topology, directory):
        home = directory / peer.name
        for attempt in range(1, START_TRIES + 1):
            setup = Setup(scenario, topology, *free_ports(3), self.args.workers)
            home.mkdir(exist_ok=True)
            for name, content in peer.files(setup).items():
                (home / name).write_text(content)
                (self.config_directory(scenario, peer) / name).write_text(content)
            for name in (CERTIFICATE, KEY, PAIR) if scenario.tls else []:
                shutil.copy(self.work / name, home)
            command = [peer.path, *peer.arguments(setup)]
            program = self.programs.start(command, self.args.proxy_cpus, home, f"{scenario.name}/{peer.name}")
            try:
                wait_until_ready(program, peer.ready_url(setup))
                return Running(peer.name, setup, peer, program, home)
            except StartError:
                self.programs.stop(program)
                if attempt == START_TRIES:
                    raise
        raise AssertionError("unreachable")

    def ask(self, ask, directory, scenario, seconds):
        output = self.programs.run(
            ask.command, self.args.load_cpus, directory, scenario.name, seconds + 30, ask.environment
        )
        return output, ask.figures(output, directory)

    def check(self, running, scenario, directory, origin):
        problems, facts = check(scenario, running.peer, running.setup, origin)
        if not problems and scenario.load == "h2load":
            before = origin.counts()
            try:
                ask = asking.counted(scenario, running.setup.url, scenario.check_requests)
                _, figures = self.ask(ask, directory, scenario, 30)
                facts["h2_requests"] = figures["requests"]
            except asking.AskError as error:
                return [str(error)], facts
            seen = (origin.counts() - before).total()
            if not figures["requests"] == seen == scenario.check_requests:
                problems.append(f"{scenario.check_requests} by HTTP/2: {figures['requests']} answers, {seen} at the origin")
        if not problems and scenario.load == "handshakes":
            ask = asking.closed_loop(scenario, running.setup.url, 1, self.args.connections, 1)
            _, figures = self.ask(ask, directory, scenario, 1)
            facts["full_handshakes"] = figures["full_handshakes"]
            if figures["resumed_handshakes"] or not figures["full_handshakes"]:
                problems.append(f"{figures['resumed_handshakes']} sessions were resumed")
        if not problems and scenario.changes:
            problems, facts["change_seconds"] = check_change(
                running.peer, running.setup, running.program, running.home, origin
            )
        return problems, facts

    def settle(self, running, origin, result):
        """After the changes the share is again what it was."""
        problems, _ = check_change(running.peer, running.setup, running.program, running.home, origin)
        result["problems"] += problems or check_share(running.setup, origin)

    def measure(self, scenario, directory, origin, running, number, rate=None):
        """One round of one proxy, after a second of the same load to warm it up."""
        changer = None
        if scenario.changes and running.peer:
            changer = Changer(running.peer, running.setup, running.program, running.home)
        try:
            return self.measure_round(scenario, directory, origin, running, number, rate, changer)
        finally:
            if changer:
                changer.stop()

    def measure_round(self, scenario, directory, origin, running, number, rate, changer):
        program, seconds, connections = running.program, self.args.seconds, self.args.connections

        def ask(seconds):
            url = running.setup.url
            if rate:
                asked = asking.fixed_rate(scenario, url, seconds, connections, rate)
            else:
                threads = min(len(self.load_cpus), self.args.workers)
                asked = asking.closed_loop(scenario, url, seconds, connections, threads)
            return self.ask(asked, directory, scenario, seconds)

        ask(WARM_UP_SECONDS)
        counts_before = origin.counts()
        busy_before, stolen_before = busy_seconds(self.all_cpus)
        own_before = self.programs.cpu_seconds()
        cpu_before = program.cpu() if program else None
        started = time.monotonic()
        output, figures = ask(seconds)
        ended = time.monotonic()
        wall = ended - started
        cpu_after = program.cpu() if program else None
        own_after = self.programs.cpu_seconds()
        busy_after, stolen_after = busy_seconds(self.all_cpus)
        seen = origin.counts() - counts_before

        requests = figures["requests"]
        record = {
            "round": number,
            "requests": requests,
            "seconds": figures["duration_us"] / 1e6,
            "requests_per_second": requests / (figures["duration_us"] / 1e6),
            **{key: figures[key] for key in ("bytes", "p50_us", "p90_us", "p99_us", "p999_us", "max_us", "errors")},
            "origin_requests": seen.total(),
            "origin_connections": sum(seen.connections.values()),
            "foreign": max(0.0, busy_after - busy_before - (own_after - own_before)) / wall / len(self.all_cpus),
            "stolen": (stolen_after - stolen_before) / wall / len(self.all_cpus),
            "problems": [],
        }
        if rate:
            record["rate"] = rate
            record["sent_late_p99_us"] = figures["sent_late_p99_us"]
        problems = record["problems"]
        errors = {kind: count for kind, count in figures["errors"].items() if count}
        # A peer may lose requests when it is reloaded: that is a figure. Serin must not.
        if errors and (not scenario.changes or running.name in report.SUBJECTS):
            problems.append("errors " + ", ".join(f"{kind} {count}" for kind, count in errors.items()))
        if not requests:
            problems.append("no request was answered")
        if figures.get("resumed_handshakes"):
            problems.append(f"{figures['resumed_handshakes']} sessions were resumed")
        if program:
            cpu = cpu_after - cpu_before
            record["busy"] = cpu.total / wall
            if requests:
                record["cpu_user_us"] = cpu.user / requests * 1e6
                record["cpu_system_us"] = cpu.system / requests * 1e6
                record["cpu_us"] = cpu.total / requests * 1e6
            record["pss"], record["rss"] = program.memory()
            share = seen.share([pool.canary for pool in running.setup.topology.pools])
            record["canary_share"] = share
            problems += self.judge_share(record, share, changer, started, ended)
            if not program.running():
                problems.append("it ended during the round")
        surplus = seen.total() - requests
        lost = sum(errors.values())
        if not -requests * COUNT_TOLERANCE <= surplus <= 2 * connections + lost + requests * COUNT_TOLERANCE:
            problems.append(f"{requests} requests were {seen.total()} at the origin")

        raw = self.work / "raw" / scenario.name
        raw.mkdir(parents=True, exist_ok=True)
        with open(raw / f"{running.name}.txt", "a") as file:
            file.write(f"## {f'{rate:.0f} requests/s, ' if rate else ''}round {number}\n{output}")
            if program:
                file.write(f"proxy CPU: user {cpu.user:.2f} s, system {cpu.system:.2f} s, wall {wall:.2f} s\n")
            file.write("\n")
        shown = f"{record['cpu_us']:6.1f} us/request" if record.get("cpu_us") else " " * 17
        say(
            f"  {'rate ' if rate else 'round'} {number} {running.name:8} {shown} "
            f"{record['requests_per_second']:9.0f} requests/s  p50 {record['p50_us']} us  p99 {record['p99_us']} us"
            + "".join(f"  ! {problem}" for problem in problems)
        )
        return record

    @staticmethod
    def judge_share(record, share, changer, begin, end):
        """What is wrong with the canary's share of a round."""
        if not changer:
            return [] if SHARE_MIN <= share <= SHARE_MAX else [f"the canary got {share:.1%} of the requests"]
        if changer.problem:
            return [changer.problem]
        record["changes"], wanted = changer.between(begin, end)
        record["share_wanted"] = wanted
        if abs(share - wanted) > CHANGING_TOLERANCE:
            return [f"the canary got {share:.1%} of the requests instead of {wanted:.1%} on average"]
        return []


def described(facts):
    parts = [
        f"{facts['requests']} requests",
        f"canary {facts['canary_share']:.2%}",
        f"{facts['origin_connections']} connection(s) to the origin",
    ]
    if "session_tickets" in facts:
        parts.append(f"{facts['session_tickets']} session tickets")
    if "h2_requests" in facts:
        parts.append(f"{facts['h2_requests']} requests by HTTP/2")
    if "full_handshakes" in facts:
        parts.append(f"{facts['full_handshakes']} full handshakes")
    if "change_seconds" in facts:
        parts.append(f"a change within {facts['change_seconds']:.2f} s")
    return ", ".join(parts)


def rotated(measured, number):
    first = (number - 1) % len(measured) if measured else 0
    return measured[first:] + measured[:first]


def say(line):
    print(line, flush=True)
