"""A program under valgrind's callgrind, and what its profiles say."""

import re
import subprocess
from collections import Counter
from dataclasses import dataclass, field

# Printed beside the figures, because the code that runs depends on what valgrind knows of the CPU.
VERSION = ["valgrind", "--version"]

# A compressed name, `(12) name`, of which later lines give only the number.
NAME = re.compile(r"\((\d+)\)(?: (.*))?")

# What asks jemalloc, or else the C library, for memory.
ALLOCATION = re.compile(r"(_rjem_)?(malloc|calloc|mallocx|realloc|rallocx)")


def command(command_line):
    """Nothing is counted until `count`. Each thread has a profile of its own."""
    return [
        "valgrind",
        "--tool=callgrind",
        "--instr-atstart=no",
        "--separate-threads=yes",
        "--compress-pos=no",
        "--callgrind-out-file=callgrind.out",
        *command_line,
    ]


def count(program):
    _control(program, "-i", "on")


def take(program, directory, number):
    """Ends a part of the count, and returns what it holds: thread -> profile. Parts are numbered from 1."""
    _control(program, "-d", f"part-{number}")
    profiles = {}
    for path in directory.glob(f"callgrind.out.{number}-*"):
        profiles[path.name.rpartition("-")[2]] = read(path)
    if not profiles:
        raise SystemExit(f"callgrind wrote no profile{program.last_words()}")
    return profiles


def count_requests(program, directory, send, few, warm_up, workers=1):
    """What a request costs: `send(N)` is called with N and then with 3 N. Returns the profile of the busiest threads, as
    many as there are workers, the second less the first, of how many requests it is, and the instructions of the other
    threads for each."""
    send(warm_up)
    count(program)
    send(100)
    take(program, directory, 1)
    send(few)
    first = take(program, directory, 2)
    send(3 * few)
    second = take(program, directory, 3)
    busiest = sorted(second, key=lambda thread: second[thread].total)[-workers:]
    others = sum(profile.total for thread, profile in second.items() if thread not in busiest)
    cost = Profile()
    for thread in busiest:
        cost.add(second[thread])
        cost.add(first[thread], times=-1)
    return cost, 2 * few, others / (3 * few)


def _control(program, *arguments):
    done = subprocess.run(
        ["callgrind_control", *arguments, str(program.child.pid)], capture_output=True, text=True, check=False
    )
    if "OK" not in done.stdout:
        raise SystemExit(f"callgrind_control: {done.stdout}{done.stderr}{program.last_words()}")


@dataclass
class Profile:
    """Instructions of a thread, by function: in itself, and with all that it called. A function that calls itself
    through others counts twice in the second."""

    total: int = 0
    allocations: int = 0
    own: Counter = field(default_factory=Counter)
    with_calls: Counter = field(default_factory=Counter)

    def add(self, other, times=1):
        """Adds another profile, or takes it off."""
        self.total += times * other.total
        self.allocations += times * other.allocations
        for mine, others in ((self.own, other.own), (self.with_calls, other.with_calls)):
            for function, cost in others.items():
                mine[function] += times * cost

    @property
    def self_total(self):
        return sum(self.own.values())


def read(path):
    """A profile in callgrind's format: cost lines `line Ir`, and `calls=` followed by the cost of the calls."""
    profile = Profile()
    names = {}
    function = called = None

    def name(text):
        number, new = NAME.match(text).groups()
        if new is not None:
            names[number] = new
        return names[number]

    with open(path) as lines:
        for line in lines:
            if line.startswith("fn="):
                function = name(line[3:].rstrip())
            elif line.startswith("cfn="):
                target = name(line[4:].rstrip())
            elif line.startswith("calls="):
                called = target
                if ALLOCATION.fullmatch(target):
                    profile.allocations += int(line[6:].split()[0])
            elif line[0].isdigit() or line[0] in "+-*":
                fields = line.split()
                cost = int(fields[1]) if len(fields) > 1 else 0
                if called is None:
                    profile.own[function] += cost
                    profile.with_calls[function] += cost
                else:
                    if called != function:
                        profile.with_calls[function] += cost
                    called = None
            elif line.startswith("totals:"):
                profile.total = int(line.split()[1])
    return profile
