#!/usr/bin/env python3
"""Instructions per exchange in the simulator, against bench/guard/record.

    bench/guard.py [--update] [CASE ...]

Counted are those of src/ only, of a run of 3 N exchanges less a run of N, so
that neither start nor peers nor libraries count. The runs are deterministic.
Fails when a case needs more than 3 % above its record; who has reason to, says
--update and commits the new record with the change.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BENCH_BUILD", os.path.join(ROOT, "build"))
PROGRAM = os.path.join(BUILD, "sim/bench/guard/guard")
RECORD = os.path.join(ROOT, "bench/guard/record")
TOLERANCE = 1.03


def counted(case, n):
    """Instructions of src/ in a run of n exchanges."""
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "out")
        subprocess.run(
            ["valgrind", "-q", "--tool=callgrind",
             f"--callgrind-out-file={out}", PROGRAM, case, str(n)],
            check=True)
        text = subprocess.run(
            ["callgrind_annotate", "--auto=no", "--threshold=100", out],
            capture_output=True, text=True, check=True).stdout
    total = 0
    for line in text.splitlines():
        m = re.match(r"\s*([\d,]+) \([ \d.]+%\)\s+(?:\./)?src/", line)
        if m:
            total += int(m[1].replace(",", ""))
    return total


def per_exchange(case):
    n = 60 if case.startswith("post") else 400
    return round((counted(case, 3 * n) - counted(case, n)) / (2 * n))


def read_record():
    with open(RECORD) as f:
        lines = [line.split() for line in f if not line.startswith("#")]
    return {name: int(count) for name, count in lines}


def write_record(record):
    with open(RECORD, "w") as f:
        f.write("# Instructions of src/ per exchange: bench/guard.py "
                "--update\n")
        for name, count in record.items():
            f.write(f"{name} {count}\n")


def main():
    args = sys.argv[1:]
    update = "--update" in args
    cases = [a for a in args if a != "--update"]
    if not shutil.which("valgrind"):
        print("bench-guard: valgrind is missing", file=sys.stderr)
        sys.exit(1)
    everything = subprocess.run([PROGRAM], capture_output=True, text=True,
                                check=True).stdout.split()
    record = read_record() if os.path.exists(RECORD) else {}
    passed = failed = 0
    for case in cases or everything:
        now, was = per_exchange(case), record.get(case)
        good = was is not None and now <= was * TOLERANCE
        passed, failed = passed + good, failed + (not good)
        change = f"{(now / was - 1) * 100:+.1f} %" if was else "no record"
        word = "ok" if good else "new" if update else "TOO MANY"
        print(f"{case}: {now} instructions, recorded {was}, {change}: {word}",
              flush=True)
        if update:
            record[case] = now
    if update:
        write_record({c: record[c] for c in everything if c in record})
        return
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
