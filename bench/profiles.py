"""What load is put on a row, and what it is measured by."""
import http.client
import json
import operator
import os
import socket
import subprocess
import time

from process import LOAD_CPU, Awake, run_first
from rows import INFLIGHT, ROOT, SLOW_RATE, Skip, program, tool

BROWSER = {
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML,"
                  " like Gecko) Chrome/126.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    "Accept-Language": "en-US,en;q=0.5",
    "Accept-Encoding": "gzip, deflate, br",
    "Referer": "http://www.example.com/shop",
    "Cookie": "session=0123456789abcdef0123456789abcdef; theme=dark",
    "Upgrade-Insecure-Requests": "1",
}


class Sample:
    """Of one run on one row."""

    def __init__(self, requests, seconds, cpu_us, kernel_us, **more):
        self.requests, self.seconds = requests, seconds
        self.cpu = cpu_us / max(requests, 1)
        self.kernel = kernel_us / max(requests, 1)
        self.per_second = requests / seconds
        self.__dict__.update(more)


def run(command, env=None, first=False):
    """first: before all others on its core."""
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CPU)] + command, capture_output=True,
        text=True, env=dict(os.environ, **(env or {})),
        preexec_fn=run_first if first else None)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            return json.loads(line)
    words = (done.stdout + done.stderr).strip().splitlines()
    raise RuntimeError(f"{command[0]}: {words[:1]}")


def wrk(row, seconds, conns, path="/", headers=None, paths=()):
    command = [program("wrk"), "-t1", f"-c{conns}", f"-d{max(1, round(seconds))}s",
               "--timeout", "20s", "-s", os.path.join(ROOT, "bench/wrk.lua")]
    for name, value in (headers or {}).items():
        command += ["-H", f"{name}: {value}"]
    command += [f"http://127.0.0.1:{row.port}{path}", "--", *paths]
    r = run(command, {"BENCH_PATHS": "1"} if paths else None)
    return dict(requests=r["requests"], seconds=r["us"] / 1e6, p50=r["p50"],
                p99=r["p99"], p999=r["p999"], errors=r["errors"],
                open=conns)


def load(row, seconds, conns, *more, first=False):
    r = run([tool("tests/load/load"), "-u", f"127.0.0.1:{row.port}",
             "-c", str(conns), "-d", str(seconds), *more], first=first)
    us = r["latency_us"]
    late = {"late": r["late_us"]["p99"]} if "late_us" in r else {}
    bad = r["sent"] - r["status"].get("200", 0)
    return dict(requests=r["ok"], seconds=r["seconds"], p50=us["p50"],
                p99=us["p99"], p999=us["p99.9"], errors=bad, open=0, **late)


# A second of them, and the first tenth of it does not count: connections are
# opened.
RATE, UNJUDGED = 10000, 1000


def open_loop(row, seconds):
    """At a fixed rate, from the time each request should go out. The load tool
    comes before origin and agents on their core, so that it is in time."""
    with Awake():
        return load(row, seconds, 64, "-r", str(RATE), "-i", str(UNJUDGED),
                    first=True)


def steady(row, seconds, conns):
    """Closed loop on connections that all have had an answer: what it takes to
    open them does not count. With its own figures of the CPU and memory."""
    p = subprocess.Popen(
        ["taskset", "-c", str(LOAD_CPU), tool("tests/load/load"), "-u",
         f"127.0.0.1:{row.port}", "-c", str(conns), "-d", "3600", "-P"],
        stdout=subprocess.PIPE, text=True)
    try:
        at = []         # requests, CPU, kernel, time
        while not at or time.monotonic() - at[0][3] < seconds:
            word, _, done = p.stdout.readline().partition(" ")
            if word != "progress":
                raise RuntimeError("the load ended")
            if int(done) >= 2 * conns:
                at.append((int(done), *row.proxy.cpu(), time.monotonic()))
        rss = row.proxy.rss()
        p.terminate()
        for line in p.stdout:
            if line.startswith("{"):
                r = json.loads(line)
    finally:
        p.kill()
        p.wait()
    n, cpu, kernel, took = (b - a for a, b in zip(at[0], at[-1]))
    return dict(requests=n, seconds=took, cpu_us=cpu, kernel_us=kernel,
                rss=rss, asked=r["sent"], p50=r["latency_us"]["p50"],
                p99=r["latency_us"]["p99"], p999=r["latency_us"]["p99.9"],
                errors=r["sent"] - r["status"].get("200", 0), open=0)


def settled(read, still, pause, times):
    """What it reads, once what it read before and now is still the same."""
    now = read()
    for _ in range(times):
        time.sleep(pause)
        last, now = now, read()
        if still(now, last):
            break
    return now


class Profile:
    """drive(row, seconds) puts the load on; base: the row that the others are
    divided by."""

    def __init__(self, name, rows, drive, what, base="floor"):
        self.name, self.rows, self.drive = name, rows, drive
        self.what, self.base = what, base

    def sample(self, row, seconds):
        before = row.proxy.cpu()
        heads = [a.heads() for a in row.agents]
        r = self.drive(row, seconds)
        after = row.proxy.cpu()
        asked_for = r.pop("asked", r["requests"])
        s = Sample(**dict(cpu_us=after[0] - before[0],
                          kernel_us=after[1] - before[1]) | r)
        if s.errors:
            raise RuntimeError(f"{row.name}: {s.errors} bad answers of "
                               f"{s.requests}")
        if row.agents and not getattr(row, "paths", None):
            for a, n in zip(row.agents, heads):
                asked = settled(a.heads, operator.eq, 0.02,
                                100) - n
                if not asked_for <= asked <= asked_for + s.open:
                    raise RuntimeError(
                        f"{row.name}: {asked_for} requests, but an agent "
                        f"was asked {asked} times")
        return s


def check(row):
    """An allowed path gives 200, a blocked one 403 where there is an agent
    that blocks."""
    for path, blocked in (("/", False), ("/blocked/x", True)):
        c = http.client.HTTPConnection("127.0.0.1", row.port, timeout=5)
        c.request("GET", path)
        status = c.getresponse().status
        c.close()
        want = 403 if blocked and row.agents and not row.observed else 200
        if status != want:
            raise Skip(f"{path} gives {status}, not {want}")




def idle(row, count):
    """Bytes of memory per idle kept connection."""
    wrk(row, 1, 32)
    before = row.proxy.rss()
    conns = []
    try:
        for _ in range(count):
            s = socket.create_connection(("127.0.0.1", row.port))
            conns.append(s)
            s.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while b"ok\n" not in got:
                more = s.recv(4096)
                if not more:
                    raise RuntimeError(f"{row.name} closed a connection")
                got += more
        # Some put a connection away only after it was quiet for a while.
        after = settled(row.proxy.rss, operator.ge, 2, 10)
        return (after - before) / count
    finally:
        for s in conns:
            s.close()


PEERS = ["floor", "floor-hop", "nginx", "nginx-auth", "haproxy",
         "haproxy-spoe", "envoy", "envoy-authz", "envoy-proc", "zentinel",
         "zentinel-agent", "ours", "ours-msgpack", "ours-json", "ours-one-link",
         "ours-three", "ours-observed", "ours-log"]
BODIES = ["floor", "floor-256k", "nginx", "nginx-64k", "haproxy",
          "haproxy-64k", "envoy", "zentinel", "ours"]
BODY_AGENTS = ["ours-msgpack", "ours-body-json", "ours-body-msgpack",
               "ours-body-raw"]


def body(size, conns):
    return lambda row, seconds: load(row, seconds, conns, "-m", "POST", "-b",
                                     str(size))


PROFILES = [
    Profile("tiny", PEERS, lambda row, s: wrk(row, s, 32),
            "GET of 3 bytes, wrk -c32"),
    Profile("browser", PEERS, lambda row, s: wrk(
        row, s, 32, "/shop/items/12345?ref=home", BROWSER),
        "the same with a browser's head of 460 bytes"),
    Profile("post64k", BODIES + BODY_AGENTS, body(65536, 16),
            "POST of 64 KiB, 16 connections"),
    Profile("post1m", BODIES + BODY_AGENTS, body(1 << 20, 8),
            "POST of 1 MiB, 8 connections"),
    Profile("get1m", BODIES + ["ours-msgpack"],
            lambda row, s: load(row, s, 8, "-p", "/bytes/1048576"),
            "GET of 1 MiB, 8 connections"),
    Profile("agents", ["floor"] + [f"{row}-{n}" for n in
                                  (1, 10, 100, 1000) for row in
                                  ("floor-hop", "ours-agents")],
            lambda row, s: wrk(row, s, 32, paths=getattr(row, "paths", ())),
            "tiny GET, each route with an agent of its own, routes in turn"),
    *[Profile(f"inflight{n}", [f"floor-slow-{n}", f"ours-slow-{n}"],
              lambda row, s, n=n: steady(row, max(s, n / SLOW_RATE), n),
              f"tiny GET, {n} of them with an agent that answers after "
              f"{n / SLOW_RATE:g} s", f"floor-slow-{n}")
      for n in INFLIGHT],
    Profile("latency", ["floor", "floor-hop", "nginx", "nginx-auth",
                        "haproxy", "haproxy-spoe", "envoy", "envoy-authz",
                        "envoy-proc", "zentinel", "zentinel-agent", "ours",
                        "ours-msgpack", "ours-json"],
            open_loop,
            f"tiny GET, {RATE:,} a second, from the time each should go out"),
]

# What an agent adds: the row with one, and without. The bare hop comes first.
HOPS = [("floor-hop", "floor"), ("ours-msgpack", "ours"),
        ("ours-json", "ours"), ("nginx-auth", "nginx"),
        ("haproxy-spoe", "haproxy"), ("envoy-authz", "envoy"),
        ("envoy-proc", "envoy"), ("zentinel-agent", "zentinel")]

IDLE_ROWS = ["floor", "nginx", "haproxy", "envoy", "zentinel", "ours",
             "ours-msgpack"]
