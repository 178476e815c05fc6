"""A storm at the door where agents dial in: what others do there costs the
proxy little, and nobody else anything."""
import json
import os
import socket
import threading
import time
from collections import Counter

from lib import check, eq, wait_for
from test_flow import check_laws
from test_reverse import TOKEN, Dialled, Scripted, frame

FULL = os.environ.get("E2E_FULL") == "1" or os.environ.get("E2E_MINUTE")
N = 10016 if FULL else 1600    # divides by threads and kinds
THREADS = 8
GUESTS = 64             # that the door keeps waiting, as in reverse.c
LINKS = 4               # of the agent that the good ones are
RELEASE_KIB = 4096      # that memory may grow by


class Storm:
    """One of four kinds in turn; what each was told is counted."""

    def __init__(self, path, n):
        self.path, self.n = path, n
        self.told, self.errors = Counter(), []
        self.lock = threading.Lock()

    def good(self, a):
        a.send(1, {"protocol_version": 2, "agent_id": "waf",
                   "auth_token": TOKEN, "metadata": "x" * 100})
        return "good", a

    def wrong(self, a):
        a.send(3, {"protocol_version": 2, "agent_id": "waf",
                   "auth_token": "wrong"})
        return "wrong", a

    def half(self, a):
        whole = frame(1, {"protocol_version": 2, "agent_id": "waf"})
        a.sock.sendall(whole[:len(whole) // 2])
        a.sock.shutdown(socket.SHUT_WR)
        return "half", a

    def answer(self, name, a):
        """Everyone is told something, and sees an end in order if refused."""
        kind, v = a.frame()
        eq(kind, 4 if name == "wrong" else 2, name)
        ok = v.get("success", v.get("accepted"))
        with self.lock:
            self.told[name, "ok" if ok else v["error"]] += 1
        if not ok:
            a.closed()
        a.close()

    def run(self):
        silent = []
        for i in range(self.n):
            a = Dialled(self.path)
            if i % 4 == 3:
                silent.append(a)
            else:
                self.answer(*(self.good, self.wrong, self.half)[i % 4](a))
            if len(silent) > GUESTS // THREADS + 4:
                self.answer("silent", silent.pop(0))
        for a in silent:
            self.answer("silent", a)

    def guarded(self):
        try:
            self.run()
        except Exception as e:      # for the test to show
            self.errors.append(repr(e))


def fds(d):
    return len(os.listdir("/proc/%d/fd" % d.proc.pid))


def raging(d, path, n):
    """Runs it; the most descriptors that were seen, and who was told what."""
    storms = [Storm(path, n // THREADS) for _ in range(THREADS)]
    threads = [threading.Thread(target=s.guarded) for s in storms]
    most, told = 0, Counter()
    for t in threads:
        t.start()
    while any(t.is_alive() for t in threads):
        most = max(most, fds(d))
        time.sleep(0.005)
    for s in storms:
        eq(s.errors, [])
        told += s.told
    return most, told


RESULTS = ("ok", "not_accepted", "malformed", "too_many", "crowded", "late",
           "dialect", "overload", "not_ready")


def results(d):
    m = d.metrics()
    return Counter({r: m.get("agent_registrations_total", result=r)
                    for r in RESULTS})


def check_told(told, counted, n):
    """Each was told something, and is in the metrics as what it was."""
    kinds = Counter()
    for (name, _), count in told.items():
        kinds[name] += count
    eq(kinds, Counter({k: n // 4 for k in ("good", "wrong", "half",
                                           "silent")}))
    eq((counted["ok"], counted["not_accepted"]), (told["good", "ok"], n // 4))
    eq(sum(counted.values()), n)
    for word in ("ok", "malformed", "crowded"):
        check(counted[word] > 0, counted)
    for word in ("dialect", "overload", "not_ready"):
        eq(counted[word], 0, word)


def links(d, name):
    return [a["instances"][0]["links_up"] for a in
            json.loads(d.admin("/agents").body)["agents"]
            if a["name"] == name][0]


def agent_lines(d):
    return [x for x in d.own_log().splitlines() if " agent_" in x]


def test_reverse_storm(env):
    """Good ones, wrong tokens, half a registration, and silence, thousands of
    them, under other agents' traffic. (10,000 with E2E_FULL=1.)"""
    o = env.fast_origin()
    c = env.config(o.port, workers=2, agent_listener={
        "address": "unix:" + env.path("door")})
    c["agents"] = {n: {"reverse": {"token": TOKEN}, "on_failure": "deny",
                       "max_connections": LINKS} for n in ("waf", "steady")}
    c["routes"][0]["agents"] = ["steady"]
    d = env.start(c, False)
    Scripted(env, name="steady", links=2)
    wait_for(d.is_ready, "ready")
    load = env.load(d, "-c", 16, "-r", 200, "-d", 3600, "-p", "/n/%",
                    wait=False)
    load.wait_progress(50)
    # What a storm leaves behind for good is there after a short one.
    raging(d, env.path("door"), 160)
    wait_for(lambda: links(d, "waf") == 0, "no links of the short one")
    before = results(d)
    rss, used, lines = d.rss_kib(), fds(d), len(agent_lines(d))
    began = time.monotonic()
    most, told = raging(d, env.path("door"), N)
    seconds = time.monotonic() - began
    s = load.stop()
    eq((s["ok"], set(s["status"])), (s["sent"], {"200"}), "other traffic")
    wait_for(lambda: links(d, "waf") == 0, "no links left")
    wait_for(lambda: fds(d) <= used, "descriptors are given back")
    check_told(told, results(d) - before, N)
    lines = len(agent_lines(d)) - lines
    grown = d.rss_kib() - rss
    print("%d in %.1f s: %d descriptors above %d, %d KiB more, %d lines, %d "
          "other requests" % (N, seconds, most - used, used, grown, lines,
                              s["sent"]))
    check(most <= used + GUESTS + LINKS + 2 * 16 + THREADS, "descriptors")
    if "release" in env.build:
        check(grown < RELEASE_KIB, "memory")
    # A line a second for refusals; 60 in 10 s of each agent.
    check(lines <= seconds + 2 + 60 * (seconds / 10 + 1) + 2, "lines")
    d.wait_idle()
    check_laws(d)
