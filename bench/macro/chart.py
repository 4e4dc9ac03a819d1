"""A chart of CPU per request: a group of bars for each scenario, as plain SVG that reads on light and dark pages."""

from html import escape

WIDTH = 920
LEFT, RIGHT, TOP = 170, 70, 64
BAR, GAP, GROUP_GAP = 13, 3, 22

# Hues that differ in lightness too, on white and on black.
COLOURS = {
    "serin": "#e4572e",
    "profiled": "#b23a17",
    "plain": "#f0a583",
    "bare": "#9a7fd1",
    "lua": "#2a9d8f",
    "nginx": "#4caf50",
    "haproxy": "#3b82c4",
    "envoy": "#b0739c",
}

STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #24292f; }
.title { font-size: 15px; font-weight: 600; }
.group { font-weight: 600; }
.quiet, .tick { fill: #57606a; }
.grid { stroke: #d0d7de; stroke-width: 1; }
.whisker { stroke: #24292f; stroke-width: 1; opacity: .6; }
.page { fill: #ffffff; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; }
  .quiet, .tick { fill: #9198a1; }
  .grid { stroke: #3d444d; }
  .whisker { stroke: #e6edf3; }
  .page { fill: #0d1117; }
}"""


def draw(run):
    """The chart of a run, or nothing where nothing was measured."""
    groups = []
    for result in run["scenarios"].values():
        bars = [
            (name, peer["title"], peer["summary"]["cpu_us"])
            for name, peer in result["peers"].items()
            if "cpu_us" in peer.get("summary", {})
        ]
        if bars:
            groups.append((result["name"], bars))
    if not groups:
        return None
    # One scale would leave nothing of the small bars beside a handshake's, so each scenario has its own.
    parts, y = [], TOP
    span = WIDTH - LEFT - RIGHT
    for name, bars in groups:
        longest = max(values["max"] for _, _, values in bars)
        height = len(bars) * (BAR + GAP) - GAP
        parts.append(f'<text class="group" x="12" y="{y + height / 2 + 4:.0f}">{escape(name)}</text>')
        parts.append(f'<line class="grid" x1="{LEFT}" y1="{y - 4}" x2="{LEFT}" y2="{y + height + 4}"/>')
        for peer, title, values in bars:
            middle = y + BAR / 2
            length, least, most = (values[key] / longest * span for key in ("median", "min", "max"))
            colour = COLOURS.get(peer, "#8c959f")
            parts += [
                f'<text class="quiet" x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(title)}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="{BAR}" rx="2" fill="{colour}">'
                f"<title>{escape(title)}, {escape(name)}: {values['median']:.1f} us "
                f"[{values['min']:.1f}-{values['max']:.1f}]</title></rect>",
            ]
            if values["max"] > values["min"]:
                parts.append(
                    f'<line class="whisker" x1="{LEFT + least:.1f}" y1="{middle}" x2="{LEFT + most:.1f}" y2="{middle}"/>'
                )
            parts.append(
                f'<text class="tick" x="{LEFT + max(length, most) + 6:.1f}" y="{middle + 4:.1f}">{values["median"]:.1f}</text>'
            )
            y += BAR + GAP
        y += GROUP_GAP
    options = run["options"]
    subtitle = (
        f"{run['date']}, {run['machine']['CPU']}, {options['workers']} worker(s); median of {options['rounds']} rounds of "
        f"{options['seconds']} s, line: least to greatest; each scenario has its own scale"
    )
    return f"""\
<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" role="img" aria-labelledby="title">
<style>
{STYLE}
</style>
<rect class="page" width="{WIDTH}" height="{y}"/>
<text class="title" id="title" x="12" y="24">CPU time per request, microseconds: less is better</text>
<text class="quiet" x="12" y="43">{escape(subtitle)}</text>
{chr(10).join(parts)}
</svg>
"""
