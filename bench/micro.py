#!/usr/bin/env python3
"""Runs bench/micro (C, ours) and bench/reference (Rust) row by row, one after
the other on one core, and prints one table.

    bench/micro.py [-r REPETITIONS] [-t MS] [-o FILE.json] [WORD ...]

WORDs choose the rows whose names contain one of them. Without cargo the
reference's column is empty and no verdict is given.
"""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

import machine

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BENCH_BUILD", os.path.join(ROOT, "build"))
OURS = os.path.join(BUILD, "release/bench/micro/micro")
REFERENCE = os.environ.get(
    "BENCH_REFERENCE", os.path.join(BUILD, "reference/release/reference"))

# The published figures, ns, on another machine of this kind: a guide only.
PUBLISHED = {
    "agent_lookup/dashmap": 20, "agent_lookup/rwlock_hashmap": 21.5,
    "health_cache/atomic_read": .55, "health_cache/atomic_write": .55,
    "timestamp_tracking/atomic_touch": 25.6,
    "timestamp_tracking/atomic_read": 1.2,
    "serialization/json_small": 203, "serialization/json_large": 895,
    "serialization/msgpack_small": 178, "serialization/msgpack_large": 686,
    "deserialization/json_small": 753, "deserialization/json_large": 4220,
    "deserialization/msgpack_small": 450,
    "deserialization/msgpack_large": 3340,
    "header_allocation/vec_single_value": 17.8,
    "header_allocation/smallvec_single_value": 9.3,
    "header_allocation/vec_multi_value": 34,
    "header_allocation/smallvec_multi_value": 39,
    "header_map_creation/vec_map_20_headers": 2060,
    "header_map_creation/smallvec_map_20_headers": 1830,
    "header_iteration/vec_iter_flat": 16.4,
    "header_iteration/smallvec_iter_flat": 22.5,
    "header_iteration/vec_collect_to_grpc": 145,
    "header_iteration/smallvec_collect_to_grpc": 164,
    "protocol_metrics/counter_increment": 2.1,
    "protocol_metrics/counter_read": .55,
    "protocol_metrics/histogram_record": 4.0,
    "connection_affinity/lookup_hit": 24,
    "connection_affinity/lookup_miss": 22,
    "connection_affinity/insert": 61,
    "full_request_path/json_path": 325, "full_request_path/msgpack_path": 288,
    "body_chunk_serialization/json_base64/1024": 920,
    "body_chunk_serialization/json_base64/4096": 3180,
    "body_chunk_serialization/json_base64/16384": 12600,
    "body_chunk_serialization/json_base64/65536": 49600,
    "body_chunk_deserialization/json_base64/1024": 427,
    "body_chunk_deserialization/json_base64/4096": 1130,
    "body_chunk_deserialization/json_base64/16384": 4060,
    "body_chunk_deserialization/json_base64/65536": 16000,
    "body_chunk_serialization/msgpack_binary/1024": 130,
    "body_chunk_serialization/msgpack_binary/4096": 138,
    "body_chunk_serialization/msgpack_binary/16384": 306,
    "body_chunk_serialization/msgpack_binary/65536": 1270,
    "body_chunk_deserialization/msgpack_binary/1024": 73,
    "body_chunk_deserialization/msgpack_binary/4096": 122,
    "body_chunk_deserialization/msgpack_binary/16384": 297,
    "body_chunk_deserialization/msgpack_binary/65536": 1250,
}

# One atomic, one clock call, one malloc or one memcpy on both sides: these
# may take as long as the reference's, within 5 %.
PRIMITIVE = (
    "health_cache/atomic", "timestamp_tracking/atomic",
    "protocol_metrics/counter", "header_allocation/",
    "body_chunk_serialization/msgpack_binary",
    "body_chunk_deserialization/msgpack_binary",
)


class Program:
    def __init__(self, path, cpu):
        self.process = subprocess.Popen(
            ["taskset", "-c", str(cpu), path], stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, text=True, bufsize=1)
        self.rows = []
        self.process.stdin.write("list\n")
        while line := self.process.stdout.readline().strip():
            self.rows.append(tuple(line.split()))

    def run(self, name, variant, ms):
        self.process.stdin.write(f"{name} {variant} {ms}\n")
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def build_reference():
    if "BENCH_REFERENCE" in os.environ:
        return True
    if not shutil.which("cargo"):
        return False
    env = dict(os.environ, CARGO_TARGET_DIR=os.path.join(BUILD, "reference"))
    done = subprocess.run(
        ["cargo", "build", "-q", "--release", "--locked", "--manifest-path",
         os.path.join(ROOT, "bench/reference/Cargo.toml")], env=env)
    return done.returncode == 0


def published(name):
    if name in PUBLISHED:
        return PUBLISHED[name]
    return PUBLISHED.get(name.rsplit("/", 1)[0])


def number(v):
    if v is None:
        return "-"
    return f"{v:.2f}" if v < 10 else f"{v:.1f}" if v < 100 else f"{v:.0f}"


def spread(samples):
    if not samples:
        return "-"
    return (f"{number(statistics.median(samples))} "
            f"({number(min(samples))}-{number(max(samples))})")


def limit_of(name):
    return 1.05 if name.startswith(PRIMITIVE) else 1.0


def judge(name, ours, reference):
    """Median of the ratios of the same round, against the row's bar."""
    if not ours or not reference:
        return None, ""
    ratio = statistics.median(a / b for a, b in zip(ours, reference))
    return ratio, "ok" if ratio <= limit_of(name) else "MISSED"


def report(results):
    head = ["row", "same work", "our design", "reference here", "published",
            "same/ref", "design/ref", "bar", "verdict"]
    lines, missed = [], []
    for name in results:
        r = results[name]
        same, verdict_same = judge(name, r.get("same"), r.get("reference"))
        design, verdict = judge(name, r.get("design"), r.get("reference"))
        # What does the same work is judged; else what the proxy does instead.
        if verdict_same:
            verdict = verdict_same
        elif verdict:
            verdict += " (design)"
        if verdict.startswith("MISSED"):
            missed.append(name)
        lines.append([
            name, spread(r.get("same")), spread(r.get("design")),
            spread(r.get("reference")), number(published(name)),
            number(same), number(design),
            f"{limit_of(name):.2f}" if verdict else "", verdict])
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for line in lines:
        print("| " + " | ".join(line) + " |")
    judged = sum(1 for line in lines if line[-1])
    print(f"\n{judged - len(missed)} of {judged} rows within their bar"
          + (": missed " + ", ".join(missed) if missed else ""))


def measure(args):
    programs = [Program(OURS, args.cpu)]
    if build_reference():
        programs.append(Program(REFERENCE, args.cpu))
    else:
        print("reference: skipped, cargo or its registry cannot be had",
              file=sys.stderr)
    names = []
    for p in programs:
        for name, _ in p.rows:
            if name not in names and (not args.words or any(
                    w in name for w in args.words)):
                names.append(name)
    results = {}
    for name in names:
        of_name = results.setdefault(name, {})
        for _ in range(args.repetitions):
            for p in programs:
                for n, variant in p.rows:
                    if n == name:
                        of_name.setdefault(variant, []).append(
                            p.run(n, variant, args.ms))
    for p in programs:
        p.close()
    return results


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-r", "--repetitions", type=int, default=5)
    parser.add_argument("-t", "--ms", type=float, default=200)
    parser.add_argument("-c", "--cpu", type=int, default=1)
    parser.add_argument("-o", "--output", default="")
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    results = measure(args)
    print(machine.facts())
    print(f"ns per iteration: median (min-max) of {args.repetitions} "
          f"repetitions of {args.ms:g} ms, one core, programs in turn\n")
    report(results)
    if args.output:
        with open(args.output, "w") as f:
            json.dump({"machine": machine.facts(), "rows": results}, f,
                      indent=1)


if __name__ == "__main__":
    main()
