#!/usr/bin/env python3
"""Instructions per exchange in the simulator, against bench/guard/record.

    bench/guard.py [--update] [CASE ...]

Counted are those of src/ only, of a run of 3 N exchanges less a run of N, so
that neither start nor peers nor libraries count. The runs are deterministic,
but only code of one compiler compares: the record names its own, and with
another one all is skipped. Fails when a case needs more than 3 % above its
record; who has reason to, says --update and commits the record with the change.
"""
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.environ.get("BENCH_BUILD", os.path.join(ROOT, "build"))
PROGRAM = os.path.join(BUILD, "release/bench/guard/guard")
RECORD = os.path.join(ROOT, "bench/guard/record")
TOLERANCE = 1.03


def counted(case, n):
    """Instructions of src/ in a run of n exchanges."""
    with tempfile.TemporaryDirectory() as d:
        out = os.path.join(d, "out")
        subprocess.run(
            ["valgrind", "-q", "--tool=callgrind",
             f"--callgrind-out-file={out}", PROGRAM, case, str(n)],
            check=True, stderr=subprocess.DEVNULL)
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


def compiler():
    """What the program was compiled with, by its own word."""
    text = subprocess.run(["readelf", "-p", ".comment", PROGRAM],
                          capture_output=True, text=True).stdout
    found = re.findall(r"\]\s+(.*)", text)
    return ", ".join(sorted(set(found))) or "unknown"


def comparable(case):
    """base64 has a part of its own for AVX2."""
    if not case.endswith("-json") or not case.startswith("post"):
        return True
    with open("/proc/cpuinfo") as f:
        return "avx2" in f.read().split()


def read_record():
    """The compiler, and instructions by case."""
    by, counts = None, {}
    if not os.path.exists(RECORD):
        return by, counts
    with open(RECORD) as f:
        for line in f:
            if line.startswith("# by "):
                by = line[5:].strip()
            elif not line.startswith("#"):
                name, count = line.split()
                counts[name] = int(count)
    return by, counts


def write_record(by, counts):
    with open(RECORD, "w") as f:
        f.write("# Instructions of src/ per exchange: bench/guard.py "
                f"--update\n# by {by}\n")
        for name, count in counts.items():
            f.write(f"{name} {count}\n")


def skip(why):
    print(f"[SKIPPED] bench-guard: {why}")
    sys.exit(0)


def say(case, now, was):
    """In the words of the unit tests. True: good."""
    good = was is not None and now <= was * TOLERANCE
    change = f"{(now / was - 1) * 100:+.1f} %" if was else "no record"
    hint = "" if good and now * TOLERANCE > was else \
        "; the record wants an update" if good else \
        "; too many, or: bench/guard.py --update"
    print(f"[{'OK' if good else 'FAILED'}] {case}: {now} instructions, "
          f"recorded {was}, {change}{hint}", flush=True)
    return good


def main():
    args = sys.argv[1:]
    update = "--update" in args
    cases = [a for a in args if a != "--update"]
    for tool in "valgrind", "callgrind_annotate", "readelf":
        if not shutil.which(tool):
            skip(f"{tool} is missing")
    by, record = read_record()
    here = compiler()
    if by != here and not update:
        skip(f"compiled by {here}, and the record is of {by}")
    everything = subprocess.run([PROGRAM], capture_output=True, text=True,
                                check=True).stdout.split()
    cases = cases or everything
    for case in [c for c in cases if not comparable(c)]:
        print(f"[SKIPPED] {case}: no AVX2, and the record has it")
        cases = [c for c in cases if c != case]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        counts = dict(zip(cases, pool.map(per_exchange, cases)))
    if update:
        record = {c: counts.get(c, record.get(c)) for c in everything}
        write_record(here, {c: n for c, n in record.items() if n})
    good = [say(case, n, record.get(case)) for case, n in counts.items()]
    sys.exit(0 if all(good) else 1)


if __name__ == "__main__":
    main()
