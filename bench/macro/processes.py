"""Starts, measures and ends processes.

Every program is started as the leader of a session of its own. So its processes are those of that
session: their CPU time and memory are summed, and they are ended by pid, also when this script is
interrupted. `taskset` pins a program by exec, so the leader is the program itself.
"""

import os
import shlex
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from secure import client_context

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")

# How long a program may take to serve, and to end after SIGTERM.
START_SECONDS = 20
STOP_SECONDS = 10


class StartError(Exception):
    """A program did not come up."""


@dataclass(frozen=True)
class Cpu:
    """CPU time in seconds."""

    user: float
    system: float

    @property
    def total(self):
        return self.user + self.system

    def __sub__(self, other):
        return Cpu(self.user - other.user, self.system - other.system)


class Program:
    """A running program with all its processes."""

    def __init__(self, child, log):
        self.child = child
        self.log = log

    def pids(self):
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                fields = stat_fields(int(entry))
                if fields and int(fields[3]) == self.child.pid:
                    found.append(int(entry))
        return found

    def cpu(self):
        """User and system time of all its processes since their start, in steps of a clock tick (10 ms); of those that
        have ended too, as nginx's workers do in a reload."""
        user = system = 0
        for pid in self.pids():
            if fields := stat_fields(pid):
                user += int(fields[11]) + int(fields[13])
                system += int(fields[12]) + int(fields[14])
        return Cpu(user / TICKS_PER_SECOND, system / TICKS_PER_SECOND)

    def memory(self):
        """Proportional and plain resident set of all its processes, in bytes. Pages shared between them
        count once in the first."""
        pss = rss = 0
        for pid in self.pids():
            try:
                for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
                    if line.startswith("Pss:"):
                        pss += int(line.split()[1]) * 1024
                    elif line.startswith("Rss:"):
                        rss += int(line.split()[1]) * 1024
            except OSError:
                pass
        return pss, rss

    def running(self):
        return self.child.poll() is None

    def signal(self, number):
        self.child.send_signal(number)

    def stop(self):
        """Ends it: SIGTERM to the leader, then SIGKILL to whatever is left."""
        pids = self.pids()
        if self.running():
            self.child.terminate()
            try:
                self.child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pids = self.pids()
        for pid in pids:
            fields = stat_fields(pid)
            if fields and int(fields[3]) == self.child.pid and fields[0] != "Z":
                os.kill(pid, signal.SIGKILL)
        self.child.wait()

    def last_words(self):
        """The end of its log, to follow a message."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "".join(f"\n    {line}" for line in lines[-8:])


class Programs:
    """All programs started; `stop_all` ends them. Also keeps the list of commands for the results."""

    def __init__(self, display):
        self.display = display  # how a program's path is shown
        self.running = []
        self.commands = []

    def command_line(self, cpus, command, environment):
        shown = [self.display(command[0]), *command[1:]]
        variables = [f"{name}={value}" for name, value in environment.items()]
        return shlex.join([*variables, "taskset", "-c", cpus, *shown])

    def start(self, command, cpus, directory, note, stdout=None, environment=None):
        """Starts a program pinned to `cpus`; its output goes to `output.log` unless `stdout` is given."""
        environment = environment or {}
        self.commands.append(f"(cd {note} && {self.command_line(cpus, command, environment)})")
        log = directory / "output.log"
        with open(log, "ab") as output:
            child = subprocess.Popen(
                ["taskset", "-c", cpus, *command],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=stdout or output,
                stderr=output,
                start_new_session=True,
                env={**os.environ, **environment},
            )
        program = Program(child, log)
        self.running.append(program)
        return program

    def run(self, command, cpus, directory, note, limit_seconds, environment=None):
        """Runs a program to its end and returns what it printed."""
        program = self.start(command, cpus, directory, note, subprocess.PIPE, environment)
        try:
            output, _ = program.child.communicate(timeout=limit_seconds)
        finally:
            self.stop(program)
        return output.decode(errors="replace")

    def stop(self, program):
        program.stop()
        self.running.remove(program)

    def cpu_seconds(self):
        """CPU time of everything that belongs to the benchmark, ended programs and this script included."""
        times = os.times()
        ended_and_own = times.user + times.system + times.children_user + times.children_system
        return ended_and_own + sum(program.cpu().total for program in self.running)

    def stop_all(self):
        for program in reversed(list(self.running)):
            self.stop(program)


def wait_until_ready(program, url, limit_seconds=START_SECONDS):
    """Returns when `url` answers 200, or 401."""
    deadline = time.monotonic() + limit_seconds
    reason = "no answer"
    while time.monotonic() < deadline:
        if not program.running():
            raise StartError(f"ended with status {program.child.returncode}{program.last_words()}")
        try:
            context = client_context() if url.startswith("https:") else None
            with urllib.request.urlopen(url, timeout=1, context=context) as answer:
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as error:
            reason = str(error)
            # Who asks without a key is told so by a proxy that serves.
            if error.code == 401:
                return
        except OSError as error:
            reason = str(error)
        time.sleep(0.05)
    raise StartError(f"{url}: {reason} within {limit_seconds} s{program.last_words()}")


def free_ports(count):
    """Ports of 127.0.0.1 that were free a moment ago; whoever finds one taken tries again with others."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def stat_fields(pid):
    """The fields of /proc/PID/stat after the name: state, ppid, pgrp, session, ..., utime is [11]."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def busy_seconds(cpus):
    """Time that the CPUs were busy, and time stolen from them by the hypervisor, since boot."""
    busy = stolen = 0
    for line in Path("/proc/stat").read_text().splitlines():
        fields = line.split()
        if fields[0].startswith("cpu") and fields[0][3:].isdigit() and int(fields[0][3:]) in cpus:
            user, nice, system, _idle, _wait, irq, softirq, steal = (int(f) for f in fields[1:9])
            busy += user + nice + system + irq + softirq
            stolen += steal
    return busy / TICKS_PER_SECOND, stolen / TICKS_PER_SECOND


def cpu_numbers(text):
    """"0,2-3" -> [0, 2, 3]"""
    numbers = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
