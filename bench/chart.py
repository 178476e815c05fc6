#!/usr/bin/env python3
"""Draws bench/results.json as bench/chart.svg: CPU per request of each row, in
floors.

    bench/chart.py [RESULTS.json [CHART.svg]]
"""
import json
import os
import statistics
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
WIDTH, BAR, GAP, LEFT, TOP = 760, 18, 6, 150, 46
COLOURS = {"floor": "#9aa5b1", "ours": "#0f7b6c"}


def colour(name):
    return COLOURS.get(name.split("-")[0], "#c9b27c")


def ratios(results, profile):
    rows = results.get(profile, {})
    floor = rows.get("floor", [])
    return [(name, statistics.median(a["cpu"] / f["cpu"] for a, f in
                                     zip(samples, floor)))
            for name, samples in rows.items() if samples and floor]


def text(x, y, s, more=""):
    return f'<text x="{x}" y="{y}" {more}>{s}</text>'


def panel(y, title, rows, scale):
    out = [text(LEFT, y + 14, title, 'font-weight="bold"')]
    y += 26
    for name, value in rows:
        width = min(value, scale) / scale * (WIDTH - LEFT - 70)
        out.append(text(LEFT - 8, y + 13, name, 'text-anchor="end"'))
        out.append(f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" '
                   f'height="{BAR}" fill="{colour(name)}" rx="2"/>')
        more = " &#8594;" if value > scale else ""
        out.append(text(LEFT + width + 6, y + 13, f"{value:.2f}{more}"))
        y += BAR + GAP
    return out, y + 10


def draw(results, facts):
    y, body = TOP, []
    for profile, title, scale in (
            ("tiny", "GET of 3 bytes, 32 connections", 4),
            ("browser", "the same with a browser's head", 4),
            ("post1m", "POST of 1 MiB, streamed", 4)):
        rows = sorted(ratios(results, profile), key=lambda r: r[1])
        if rows:
            lines, y = panel(y, title, rows, scale)
            body += lines
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" '
            f'height="{y}" font-family="sans-serif" font-size="12" '
            'fill="#222">',
            f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>',
            text(10, 20, "CPU per request of one worker, in floors (a byte "
                 "relay that parses nothing)", 'font-size="14"'),
            text(10, 38, facts.replace("&", "&amp;"), 'fill="#777"')]
    return "\n".join(head + body + ["</svg>"]) + "\n"


def main():
    source = sys.argv[1] if len(sys.argv) > 1 else os.path.join(
        HERE, "results.json")
    target = sys.argv[2] if len(sys.argv) > 2 else os.path.join(
        HERE, "chart.svg")
    with open(source) as f:
        data = json.load(f)
    with open(target, "w") as f:
        f.write(draw(data["results"], data["machine"]))


if __name__ == "__main__":
    main()
