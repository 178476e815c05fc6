#!/usr/bin/env python3
"""The whole proxy beside its peers.

    bench/peers.py [-r ROUNDS] [-d SECONDS] [-p PROFILE,...] [-w ROW,...]
                   [-o FILE.json]

One worker pinned to core 0; load, origin and agents on core 1. Rows take turns
in each round; what counts are ratios to the floor of the same round. Profiles
and rows: -l lists them. Without arguments: tiny and browser, 5 rounds of 1 s,
in about three minutes.
"""
import argparse
import json
import math
import random
import resource
import shutil
import statistics
import sys
import tempfile

import bars
import machine
import profiles
from rows import CONNS, ROWS, Skip, World


def interval(statistic, rounds, times=2000):
    """95 % interval of what statistic() makes of the rounds."""
    rng = random.Random(1)
    found = sorted(statistic(rng.choices(rounds, k=len(rounds)))
                   for _ in range(times))
    return found[int(times * .025)], found[int(times * .975)]


def number(v):
    return f"{v:.2f}" if v < 100 else f"{v:.0f}"


def say(text):
    print(text, file=sys.stderr, flush=True)


def start_rows(world, names):
    """Started ones by name, and why others are not."""
    started, skipped = {}, {}
    for name in names:
        try:
            row = ROWS[name](world)
            row.observed = "observed" in name
            if not getattr(row, "paths", None):
                profiles.check(row)
            started[name] = row
        except Skip as why:
            skipped[name] = str(why).strip().splitlines()[0][:150]
        except OSError as why:
            skipped[name] = str(why)
    return started, skipped


def measure(profile, rows, args):
    """Samples by row, round by round; a row that fails is left out."""
    samples = {name: [] for name in rows}
    failed = {}
    for r in range(-1, args.rounds):
        order = list(samples)
        random.Random(r).shuffle(order)
        for name in order:
            try:
                s = profile.sample(rows[name],
                                   args.seconds if r >= 0 else 1)
            except RuntimeError as why:
                failed[name] = str(why)
                del samples[name]
                continue
            if r >= 0:
                samples[name].append(s)
        say(f"{profile.name}: round {r + 1} of {args.rounds}")
    return samples, failed


def table(profile, samples, skipped):
    floor = samples.get(profile.base)
    print(f"\n### {profile.name}: {profile.what}\n")
    print("| row | CPU us/request (min-max) | in the kernel | ratio to the "
          "floor (95 %) | requests/s | p50 us | p99 us | p99.9 us |")
    print("|---|---|---|---|---|---|---|---|")
    for name, s in samples.items():
        cpu = [x.cpu for x in s]
        ratio = ""
        if floor:
            ratios = [x.cpu / f.cpu for x, f in zip(s, floor)]
            low, high = interval(statistics.median, ratios)
            ratio = (f"{statistics.median(ratios):.3f} "
                     f"({low:.3f}-{high:.3f})")

        def med(key):
            return statistics.median(getattr(x, key) for x in s)

        print(f"| {name} | {number(med('cpu'))} ({number(min(cpu))}-"
              f"{number(max(cpu))}) | {number(med('kernel'))} | {ratio} | "
              f"{med('per_second'):.0f} | {med('p50'):.0f} | {med('p99'):.0f}"
              f" | {med('p999'):.0f} |")
    for name, s in samples.items():
        if hasattr(s[0], "rss"):
            print(f"\n- {name}: {max(x.rss for x in s) / 1e6:.1f} MB at most")
    late = [x.late for s in samples.values() for x in s if hasattr(x, "late")]
    if late:
        print(f"\nOf the requests of a run 99 % were made within "
              f"{statistics.median(late):.0f} us of their time, "
              f"{max(late):.0f} us in the worst run.")
        added_table(samples)
    for name, why in skipped.items():
        print(f"\n- {name}: skipped: {why}")
    sys.stdout.flush()


def added_table(samples):
    """What an agent adds to a percentile, and how many times the bare hop that
    is. The same rounds of all four rows."""
    def added(key, at):
        return lambda rounds: statistics.median(
            getattr(r[at], key) - getattr(r[at + 1], key) for r in rounds)

    def times(key):
        def quotient(rounds):
            hop = added(key, 2)(rounds)
            return added(key, 0)(rounds) / hop if hop > 0 else math.inf
        return quotient

    def cell(statistic, rounds, form):
        low, high = interval(statistic, rounds)
        return (f"{statistic(rounds):{form}} ({low:{form}} to "
                f"{high:{form}})")

    if any(not samples.get(name) for name in profiles.HOPS[0]):
        return
    print("\n| what an agent adds | p50 us (95 %) | times the bare hop's | "
          "p99 us | times the bare hop's |\n|---|---|---|---|---|")
    for pair in profiles.HOPS:
        if any(not samples.get(name) for name in pair):
            continue
        rounds = list(zip(*(samples[n] for n in pair + profiles.HOPS[0])))
        print(f"| {pair[0]} - {pair[1]} | " + " | ".join(
            cell(added(key, 0), rounds, ".1f") + " | " +
            cell(times(key), rounds, ".2f") for key in ("p50", "p99")) + " |")


def idle_table(args):
    names = [n for n in profiles.IDLE_ROWS if wanted(n, args.rows)]
    print("\n### idle: bytes of memory per idle kept connection, "
          f"{args.idle} of them\n\n| row | bytes |\n|---|---|")
    result = {}
    for name in names:
        with directory() as world:
            started, skipped = start_rows(world, [name])
            try:
                if name in started:
                    result[name] = profiles.idle(started[name], args.idle)
            except (OSError, RuntimeError) as why:
                skipped[name] = str(why)
            print(f"| {name} | " + (f"{result[name]:.0f} |" if name in result
                                    else f"skipped: {skipped[name]} |"))
        sys.stdout.flush()
    return result


class directory:
    """A world in a directory of its own, and nothing left of it."""

    def __enter__(self):
        self.path = tempfile.mkdtemp(prefix="bench-")
        self.world = World(self.path)
        return self.world

    def __exit__(self, *_):
        self.world.stop()
        shutil.rmtree(self.path, ignore_errors=True)


def wanted(name, chosen):
    return not chosen or name in chosen.split(",")


def as_dict(samples):
    return {name: [x.__dict__ for x in s] for name, s in samples.items()}


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("-r", "--rounds", type=int, default=5)
    parser.add_argument("-d", "--seconds", type=float, default=1)
    parser.add_argument("-p", "--profiles", default="tiny,browser",
                        help="'all' for all of them")
    parser.add_argument("-w", "--rows", default="")
    parser.add_argument("-i", "--idle", type=int, default=CONNS)
    parser.add_argument("-o", "--output", default="")
    parser.add_argument("-l", "--list", action="store_true")
    return parser.parse_args()


def main():
    args = arguments()
    if args.list:
        for p in profiles.PROFILES:
            print(f"{p.name}: {p.what}: {' '.join(p.rows)}")
        print(f"idle: memory of idle connections: "
              f"{' '.join(profiles.IDLE_ROWS)}")
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(machine.facts())
    print(f"\n{args.rounds} rounds of {args.seconds:g} s")
    results = {}
    chosen = [p for p in profiles.PROFILES
              if args.profiles == "all" or wanted(p.name, args.profiles)]
    for p in chosen:
        with directory() as world:
            started, skipped = start_rows(
                world, [n for n in p.rows if wanted(n, args.rows)])
            samples, failed = measure(p, started, args)
            table(p, samples, {**skipped, **failed})
            results[p.name] = as_dict(samples)
    if args.profiles == "all" or "idle" in args.profiles.split(","):
        results["idle"] = idle_table(args)
    bars.report(results)
    if args.output:
        with open(args.output, "w") as f:
            json.dump({"machine": machine.facts(), "results": results}, f)


if __name__ == "__main__":
    main()
