"""Medians, ratios, and the files of bench/results/."""

import json
import os
import platform
import re
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from statistics import median

from chart import draw
from peers import DIRECT, PEERS

# Above these the figures of a run deserve doubt, and the report says so.
FOREIGN_LOAD_LIMIT = 0.03
STEAL_LIMIT = 0.02
# Below this the proxy waited for the load, so that requests/s is not its limit.
SATURATED = 0.9

# Whose CPU per request is compared with every other's.
SUBJECTS = ("serin", "profiled")

CHART = "cpu.svg"

FIGURES = [
    "cpu_us",
    "cpu_user_us",
    "cpu_system_us",
    "requests_per_second",
    "p50_us",
    "p90_us",
    "p99_us",
    "p999_us",
    "busy",
    "foreign",
    "stolen",
    "pss",
    "rss",
    "canary_share",
    "changes",
    "sent_late_p99_us",
]


def summarize(rounds):
    """Median, least and greatest of each figure over the rounds."""
    summary = {}
    for figure in FIGURES:
        values = [r[figure] for r in rounds if r.get(figure) is not None]
        if values:
            summary[figure] = {"median": median(values), "min": min(values), "max": max(values)}
    return summary


def ratio(rounds, other_rounds):
    """CPU per request against another's: of the medians; least and greatest of the single rounds' ratios."""
    by_round = {r["round"]: r["cpu_us"] for r in other_rounds}
    pairs = [r["cpu_us"] / by_round[r["round"]] for r in rounds if by_round.get(r["round"])]
    if not pairs:
        return None
    of_medians = median(r["cpu_us"] for r in rounds) / median(by_round.values())
    return {"median": of_medians, "min": min(pairs), "max": max(pairs)}


def finish(scenario_result):
    """Adds summaries and ratios to what the rounds gave."""
    peers = scenario_result["peers"]
    for peer in peers.values():
        if peer["rounds"]:
            peer["summary"] = summarize(peer["rounds"])
        if peer["rate_rounds"]:
            peer["rate_summary"] = summarize(peer["rate_rounds"])
    scenario_result["cpu_ratios"] = {
        subject: {
            name: ratio(peers[subject]["rounds"], peer["rounds"])
            for name, peer in peers.items()
            if name not in (*SUBJECTS, DIRECT) and peer["rounds"]
        }
        for subject in SUBJECTS
        if peers.get(subject, {}).get("rounds")
    }


def spread(values, form):
    if values is None:
        return "-"
    return f"{values['median']:{form}} [{values['min']:{form}}-{values['max']:{form}}]"


def thousands(values):
    if values is None:
        return "-"
    return f"{values['median'] / 1000:.1f}k [{values['min'] / 1000:.1f}-{values['max'] / 1000:.1f}]"


def table(result):
    """A scenario's tables and ratios, as Markdown that also reads well in a terminal."""
    header = [
        "proxy",
        "CPU us/request",
        "user + sys",
        "requests/s",
        "p50 us",
        "p99 us",
        "busy",
        "PSS MiB start",
        "PSS MiB load",
        "canary",
        "errors",
    ]
    rows = []
    for peer in result["peers"].values():
        if peer["problems"] and not peer["rounds"]:
            rows.append([peer["title"], "not measured, see below"] + [""] * (len(header) - 2))
            continue
        s = peer["summary"]
        cpu = s.get("cpu_us")
        rows.append(
            [
                peer["title"],
                spread(cpu, ".1f"),
                f"{s['cpu_user_us']['median']:.1f} + {s['cpu_system_us']['median']:.1f}" if cpu else "-",
                thousands(s["requests_per_second"]),
                spread(s["p50_us"], ".0f"),
                spread(s["p99_us"], ".0f"),
                f"{s['busy']['median']:.2f}" if cpu else "-",
                f"{peer['pss_start'] / 2**20:.1f}" if cpu else "-",
                f"{s['pss']['median'] / 2**20:.1f}" if cpu else "-",
                f"{s['canary_share']['median']:.2%}" if cpu else "-",
                str(sum(sum(r["errors"].values()) for r in peer["rounds"])),
            ]
        )
    lines = grid(header, rows)
    for subject, others in result["cpu_ratios"].items():
        ratios = [f"{result['peers'][name]['title']} {spread(values, '.2f')}" for name, values in others.items() if values]
        if ratios:
            title = result["peers"][subject]["title"]
            lines += ["", f"CPU per request of {title}, as a multiple of: " + ", ".join(ratios) + "."]
    return "\n".join(lines + rate_table(result))


def grid(header, rows):
    """Lines of a table in Markdown, its columns aligned."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths)) + " |"
        for row in [header, ["-" * width for width in widths], *rows]
    ]


def rate_table(result):
    """Latency at a fixed rate, if it was measured."""
    measured = [peer for peer in result["peers"].values() if peer["rate_rounds"]]
    if not measured:
        return []
    header = ["proxy", "p50 us", "p90 us", "p99 us", "p99.9 us", "CPU us/request", "busy", "sent late p99 us", "errors"]
    rows = []
    for peer in measured:
        s = peer["rate_summary"]
        cpu = s.get("cpu_us")
        rows.append(
            [
                peer["title"],
                *(spread(s[f"{name}_us"], ".0f") for name in ("p50", "p90", "p99", "p999")),
                spread(cpu, ".1f"),
                f"{s['busy']['median']:.2f}" if cpu else "-",
                spread(s["sent_late_p99_us"], ".0f"),
                str(sum(sum(r["errors"].values()) for r in peer["rate_rounds"])),
            ]
        )
    rate = measured[0]["rate_rounds"][0]["rate"]
    return ["", f"Latency at {rate:.0f} requests/s, from when each was due:", "", *grid(header, rows)]


# What the summary begins with: heading, and how a peer's figure is read.
OVERVIEW = [
    ("CPU us/request, the cost of a request", lambda peer: figure(peer, "summary", "cpu_us", ".1f")),
    (
        "Requests/s with all CPU that the proxy has",
        lambda peer: f"{peer['summary']['requests_per_second']['median'] / 1000:.1f}k" if "summary" in peer else "",
    ),
    (
        "p50 / p99 us at one rate for all proxies of a scenario, below what the slowest can do",
        lambda peer: " / ".join(figure(peer, "rate_summary", name, ".0f") for name in ("p50_us", "p99_us"))
        if "rate_summary" in peer
        else "",
    ),
]


def figure(peer, summary, name, form):
    values = peer.get(summary, {}).get(name)
    return f"{values['median']:{form}}" if values else ""


def overview(run):
    """All scenarios beside each other: CPU first, then requests/s, then latency."""
    titles = {}
    for result in run["scenarios"].values():
        titles.update({name: peer["title"] for name, peer in result["peers"].items()})
    # In the order of the peers, also where the first scenario lacks some.
    names = [name for name in [*PEERS, DIRECT] if name in titles]
    lines = []
    for heading, cell in OVERVIEW:
        rows = [
            [
                result["name"],
                *(cell(result["peers"][name]) if name in result["peers"] else "" for name in names),
            ]
            for result in run["scenarios"].values()
        ]
        if any(any(row[1:]) for row in rows):
            lines += ["", f"**{heading}**", "", *grid(["scenario", *(titles[name] for name in names)], rows)]
    return lines


def notes(result):
    """What a reader must know to judge the figures."""
    peers = result["peers"].values()
    found = [f"{peer['title']}: {problem}" for peer in peers for problem in peer["problems"]]
    measured = [peer for peer in peers if peer["rounds"]]

    def over(figure, limit):
        return ", ".join(
            f"{peer['title']} up to {peer['summary'][figure]['max']:.0%}"
            for peer in measured
            if peer["summary"][figure]["max"] > limit
        )

    for peer in measured if result["changes"] else []:
        lost = sum(sum(r["errors"].values()) for r in peer["rounds"] + peer["rate_rounds"])
        if lost:
            found.append(f"{peer['title']}: {lost} requests were lost when it was changed.")
    if disturbed := over("foreign", FOREIGN_LOAD_LIMIT):
        found.append(f"Other programs used these CPUs too ({disturbed}): noise. Repeat it on an idle machine.")
    if disturbed := over("stolen", STEAL_LIMIT):
        found.append(f"The hypervisor took CPU time away ({disturbed}): noise. Repeat it on a quieter host.")
    for peer in measured:
        busy = peer["summary"].get("busy")
        quiet = (
            peer["summary"]["foreign"]["median"] <= FOREIGN_LOAD_LIMIT
            and peer["summary"]["stolen"]["median"] <= STEAL_LIMIT
        )
        # Only where nothing else explains it.
        if busy and quiet and result["pinned_apart"]:
            if busy["median"] < SATURATED * result["workers"]:
                found.append(
                    f"{peer['title']} was busy {busy['median']:.2f} of {result['workers']} CPU: its requests/s and "
                    "latency were limited by the load, its CPU per request was not."
                )
    return found


def text(run):
    """summary.md."""
    options = run["options"]
    lines = [
        f"# Macro benchmark, {run['date']}",
        "",
        f"Rounds: {options['rounds']} of {options['seconds']} s, interleaved. Connections: {options['connections']}. "
        f"Workers: {options['workers']}. Medians [least-greatest]. Proxies on CPU {options['proxy_cpus']}, load and "
        f"origin on CPU {options['load_cpus']}. The columns are explained in `bench/README.md`.",
        "",
        "| machine | |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in run["machine"].items()),
        "",
        "| program | version |",
        "|---|---|",
        *(f"| {key} | {value} |" for key, value in run["versions"].items()),
        "",
        *(f"Skipped: {title}: {reason}." for title, reason in run["skipped"].items()),
        "",
        "## Summary",
        "",
        f"![CPU time per request]({CHART})",
        *overview(run),
    ]
    for result in run["scenarios"].values():
        lines += ["", f"## {result['name']}: {result['title']}", "", table(result)]
        if found := notes(result):
            lines += ["", *(f"- {note}" for note in found)]
    return "\n".join(lines) + "\n"


def machine():
    """What the figures depend on, without naming the host."""
    cpuinfo = read("/proc/cpuinfo")
    model = re.search(r"^model name\s*: (.*)$", cpuinfo, re.M)
    memory = re.search(r"^MemTotal:\s*(\d+)", read("/proc/meminfo"), re.M)
    system = re.search(r'^PRETTY_NAME="(.*)"$', read("/etc/os-release"), re.M)
    governor = read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip()
    return {
        "CPU": f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}",
        "virtual machine": "yes" if re.search(r"^flags\s*:.*\bhypervisor\b", cpuinfo, re.M) else "no",
        "frequency governor": governor or "not visible",
        "memory": f"{int(memory.group(1)) / 2**20:.0f} GiB" if memory else "unknown",
        "system": system.group(1) if system else "unknown",
        "kernel": platform.release(),
        "load average before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def machine_slug():
    return re.sub(r"[^a-z0-9]+", "-", machine()["CPU"].lower().replace(" x ", "x-")).strip("-")[:40].strip("-")


def binary_facts(path):
    """Size and hash, which name a build."""
    data = Path(path).read_bytes()
    return f"{len(data) / 2**20:.1f} MiB, sha256 {sha256(data).hexdigest()[:16]}"


def revision(repository):
    """The commit, and whether the tree differs from it."""

    def git(*arguments):
        done = subprocess.run(["git", *arguments], cwd=repository, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    commit = git("rev-parse", "--short=12", "HEAD")
    changed = git("status", "--porcelain", "--", "src", "Cargo.toml", "Cargo.lock")
    return (commit or "no commit") + (" with changes" if changed else "")


def read(path):
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def fresh_directory(results, name):
    """results/name, or with a number where that exists."""
    number = 1
    while True:
        directory = results / (name if number == 1 else f"{name}-{number}")
        if not directory.exists():
            return directory
        number += 1


def write(run, work, commands, directory):
    """Keeps a run: summary, commands, configurations, raw output."""
    directory.mkdir(parents=True)
    (directory / "summary.md").write_text(text(run))
    if chart := draw(run):
        (directory / CHART).write_text(chart)
    (directory / "summary.json").write_text(json.dumps(run, indent=1) + "\n")
    (directory / "commands.txt").write_text("\n".join(commands) + "\n")
    shutil.copytree(work / "config", directory / "config")
    if (work / "raw").is_dir():
        shutil.copytree(work / "raw", directory / "raw")
