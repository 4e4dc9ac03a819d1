"""The benchmark's own programs in Rust, each a crate in a folder of bench/."""

import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]


def path(name):
    """Where the program of bench/<name> is once it is built."""
    return BENCH / name / "target" / "release" / f"bench-{name}"


def build(name):
    """Builds bench/<name> where it is not built yet or has changed, and returns the program's path."""
    target = BENCH / name / "target"
    command = ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)]
    # Without the registry, what was fetched before will do.
    if subprocess.run(command, cwd=BENCH / name, check=False).returncode:
        subprocess.run([*command, "--offline"], cwd=BENCH / name, check=True)
    return path(name)
