# SPDX-License-Identifier: Apache-2.0
"""The medians of a run as one SVG: a bar per contestant and workload, relative to the ceiling. Pure: text in, text out."""
import html

from benching import report, work

SHOWN = (("perilune", "Perilune", "#2457a6"), ("tgtd rdwr", "tgtd, rdwr", "#c4742b"), ("tgtd aio", "tgtd, aio", "#dba15f"),
         ("istgt", "istgt", "#8a8f98"))
OURS = ("perilune", "perilune tmpfs", "perilune disk")
ALIASES = {"tgtd rdwr": ("tgtd rdwr", "tgtd disk rdwr"), "tgtd aio": ("tgtd aio", "tgtd disk aio"), "istgt": ("istgt", "istgt disk"),
           "perilune": OURS}
LEFT, TOP, BAR, GAP, WIDTH, RIGHT = 230, 92, 9, 12, 560, 90


def rows_of(record):
    """[(workload, ceiling IOPS, [(share of it, IOPS, colour)])] for every workload that has a ceiling."""
    rows = []
    for name, results in record["workloads"].items():
        ceiling = report.best(results, work.MEASURES)
        if not ceiling:
            continue
        bars = []
        for key, _, colour in SHOWN:
            iops = report.best(results, ALIASES[key])
            if iops is not None:
                bars.append((iops / ceiling, iops, colour))
        rows.append((name, ceiling, bars))
    return rows


def text(x, y, words, size=12, anchor="start", weight="normal", colour="#222"):
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" '
            f'fill="{colour}">{html.escape(words)}</text>')


def svg(record):
    rows = rows_of(record)
    scale = WIDTH / max([1.2] + [bar[0] for row in rows for bar in row[2]])
    height = TOP + sum(len(row[2]) * BAR + GAP for row in rows) + 34
    total = LEFT + WIDTH + RIGHT
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{total}" height="{height}" viewBox="0 0 {total} {height}" '
           'font-family="Helvetica, Arial, sans-serif">', f'<rect width="{total}" height="{height}" fill="#fff"/>',
           text(LEFT, 24, "IOPS as a share of a minimal TCP responder's (the ceiling)", 16, weight="bold"),
           text(LEFT, 42, f"server on one core, client on another; {record['machine']['cpu']}, Linux {record['machine']['kernel']}; "
                f"medians of {record['rounds']} rounds", 11, colour="#666")]
    x = LEFT
    for _, label, colour in SHOWN:
        out += [f'<rect x="{x}" y="54" width="12" height="12" fill="{colour}"/>', text(x + 17, 64, label)]
        x += 30 + 8 * len(label)
    bottom = height - 28
    for share in (0, 0.25, 0.5, 0.75, 1.0):
        at = LEFT + share * scale
        out.append(f'<line x1="{at:.1f}" y1="{TOP - 8}" x2="{at:.1f}" y2="{bottom}" stroke="{"#444" if share == 1 else "#ddd"}"/>')
        out.append(text(at, bottom + 14, "ceiling" if share == 1 else f"{share:g}", 11, "middle", colour="#666"))
    y = TOP
    for name, ceiling, bars in rows:
        block = len(bars) * BAR
        out.append(text(LEFT - 8, y + block / 2 + 1, name, 12, "end"))
        out.append(text(LEFT - 8, y + block / 2 + 13, f"ceiling {ceiling:,.0f}", 9, "end", colour="#888"))
        for share, iops, colour in bars:
            out.append(f'<rect x="{LEFT}" y="{y}" width="{share * scale:.1f}" height="{BAR - 1}" fill="{colour}"/>')
            out.append(text(LEFT + share * scale + 4, y + BAR - 2, f"{iops:,.0f}", 8, colour="#555"))
            y += BAR
        y += GAP
    return "\n".join([*out, "</svg>"]) + "\n"
