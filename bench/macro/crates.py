"""The benchmark's own programs in Rust, each a crate in a folder of bench/."""

import subprocess
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]


def build(name):
    """Builds bench/<name> where it is not built yet or has changed, and returns the program's path."""
    directory = BENCH / name
    target = directory / "target"
    subprocess.run(
        ["cargo", "build", "--release", "--locked", "--quiet", "--target-dir", str(target)], cwd=directory, check=True
    )
    return target / "release" / f"bench-{name}"
