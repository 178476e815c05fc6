#!/usr/bin/env python3
"""What a proxy does while one of its agents goes wrong, under a numbered load.

    tests/e2e/chaos.py [--build build/release] [--table FILE] [WORD ...]

`make chaos` runs all cells and writes docs/chaos.md; test_chaos.py has some.
One cell is a fault, what the agent's failures mean (deny or allow), whether it
is the only agent or has a good one beside it, and its encoding. In each cell:

    load, good agent | load, fault | no load, fault | load, fault | load, good

Three witnesses are compared: what the client got (tests/load/load), what the
upstream got (tests/load/origin), and what the agents say that they answered
(the lines of scripted-agent), and with them the counters and the access log.
"""
import argparse
import calendar
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

from lib import LIMIT, ROOT, Env, Skip, check, eq, wait_for

TIMEOUT_MS = 200        # of the agent that goes wrong
SLACK_MS = 300          # what a request may need beside it
SLOW = 5                # the same with a sanitizer, on a busy machine
FAST_MS = 150           # a verdict of its own, after the fault is over; if the
                        # breaker was open: as long as the fault, and a second
IDLE_CPU = 0.01         # of one core
IDLE_TRIES = 4
NOBODY = 65534


# ---- the agents ----------------------------------------------------------------

def can_connect(path):
    with socket.socket(socket.AF_UNIX) as s:
        try:
            s.connect(path)
            return True
        except OSError:
            return False


class Scripted:
    """An agent's place: processes of scripted-agent, one after the other."""

    def __init__(self, env, name, encoding, rules=""):
        self.env, self.name, self.encoding = env, name, encoding
        self.path, self.rules = env.path(name + ".sock"), rules
        self.script = env.path(name + ".script")
        self.logs = []

    def write(self, rules):
        with open(self.script + ".new", "w") as f:
            f.write(rules + "\n")
        os.rename(self.script + ".new", self.script)

    def start(self, rules=None, umask=0):
        self.write(self.rules if rules is None else rules)
        log = self.env.path("%s-%d.log" % (self.name, len(self.logs)))
        self.logs.append(log)
        with open(log, "wb") as out:
            self.proc = self.env.spawn(
                [self.env.binary("scripted-agent"), "-s", self.path, "-f",
                 self.script, "--encoding", self.encoding], stdout=out,
                umask=umask)
        if umask == 0:
            wait_for(lambda: can_connect(self.path), "the agent's socket")

    def behave(self, rules):
        self.write(rules + "\n" + self.rules)
        self.proc.send_signal(signal.SIGHUP)

    def kill(self):
        self.proc.kill()
        self.proc.wait()

    def answers(self):
        """What was answered to the request heads: number to word."""
        out = {}
        for path in self.logs:
            with open(path) as f:
                for line in f:
                    m = re.search(r'"uri":"/n/(\d+)","answer":"(\w+)"', line)
                    if m:
                        out[int(m.group(1))] = m.group(2)
        return out


# ---- the faults ----------------------------------------------------------------

class Fault:
    """begin() and end() while load is on. hurts: requests miss a verdict by
    it: True, False, or None where it depends. wire: to be seen in both
    encodings. breaker: the agent lives, and is trusted less and less."""
    hurts, wire, breaker = True, False, False

    def __init__(self, name, **more):
        self.name = name
        self.__dict__.update(more)

    def prepare(self, cell):
        pass

    def begin(self, cell):
        raise NotImplementedError

    def end(self, cell):
        raise NotImplementedError


class Behaviour(Fault):
    """The agent lives and does what a script says."""
    wire = breaker = True

    def begin(self, cell):
        cell.agent.behave(self.rules)

    def end(self, cell):
        cell.agent.behave("")


class Killed(Fault):
    def begin(self, cell):
        cell.agent.kill()

    def end(self, cell):
        cell.agent.start()


class Stopped(Fault):
    def begin(self, cell):
        cell.agent.proc.send_signal(signal.SIGSTOP)

    def end(self, cell):
        cell.agent.proc.send_signal(signal.SIGCONT)


class Removed(Killed):
    """Links outlive their socket's name; then the agent goes too."""

    def begin(self, cell):
        os.unlink(cell.agent.path)
        cell.progress(0.1)
        eq(cell.d.metric("agent_failures_total", agent="waf"), 0,
           "failures while only the name was gone")
        cell.agent.kill()


class Replaced(Fault):
    """Another process takes the name over; later the first one dies."""

    def begin(self, cell):
        self.old = cell.agent.proc
        cell.agent.start()

    def end(self, cell):
        self.old.kill()
        self.old.wait()


class Forbidden(Fault):
    def prepare(self, cell):
        if os.geteuid() != 0:
            return              # we are not asked about rights, root is
        cell.user = NOBODY
        os.chmod(cell.env.dir, 0o777)
        try:
            subprocess.run([cell.env.binary("agentproxyd"), "-V"], user=NOBODY,
                           group=NOBODY, extra_groups=[], check=True,
                           stdout=subprocess.DEVNULL)
        except OSError as e:
            raise Skip("another user cannot run the daemon: %s" % e)

    def begin(self, cell):
        cell.agent.kill()
        os.unlink(cell.agent.path)
        cell.agent.start(umask=0o777)

    def end(self, cell):
        os.chmod(cell.agent.path, 0o777)


class Full(Fault):
    """Somebody listens and never accepts."""

    def begin(self, cell):
        cell.agent.kill()
        os.unlink(cell.agent.path)
        self.socks = [socket.socket(socket.AF_UNIX)]
        self.socks[0].bind(cell.agent.path)
        self.socks[0].listen(0)
        try:
            while True:
                s = socket.socket(socket.AF_UNIX)
                self.socks.append(s)
                s.setblocking(False)
                s.connect(cell.agent.path)
        except BlockingIOError:
            pass

    def end(self, cell):
        for s in self.socks:
            s.close()
        cell.agent.start()


class Flapping(Fault):
    """It dies every 250 ms and is back at once."""

    def run(self, cell):
        while not self.over.wait(0.25):
            cell.agent.kill()
            cell.agent.start()

    def begin(self, cell):
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(cell,))
        self.thread.start()

    def end(self, cell):
        self.over.set()
        self.thread.join()


def scripted(name, action, **more):
    return Behaviour(name, rules="on request_head " + action, **more)


FAULTS = [
    Killed("SIGKILL"),
    Stopped("SIGSTOP"),
    scripted("late by 10 %", "late %dms" % (TIMEOUT_MS * 1.1), wire=False),
    Behaviour("never reads", rules="deaf", wire=False, breaker=False),
    scripted("closes mid-frame", "midframe"),
    scripted("garbage", "garbage"),
    scripted("length 0", "length 0"),
    scripted("length 2^31", "length 2147483648"),
    scripted("wrong id", "wrong-id"),
    scripted("two answers", "twice", hurts=None),
    scripted("reversed order", "reorder 8", hurts=False, breaker=False),
    scripted("a byte per 100 ms", "drip 1/100ms"),
    Removed("socket removed"),
    Replaced("socket replaced", hurts=None),
    Forbidden("no permission"),
    Full("backlog full"),
    Flapping("flapping", hurts=None),
]


class Pauses(threading.Thread):
    """How long this machine lets a process wait that could run."""

    def __init__(self):
        super().__init__(daemon=True)
        self.longest_ms, self.over = 0, False
        self.start()

    def run(self):
        while not self.over:
            began = time.monotonic()
            time.sleep(0.005)
            self.longest_ms = max(self.longest_ms, (
                time.monotonic() - began) * 1e3 - 5)

    def stop(self):
        self.over = True
        self.join()
        return self.longest_ms


# ---- one cell ------------------------------------------------------------------

class Cell:
    def __init__(self, fault, policy="deny", two=False, encoding="msgpack",
                 pace=1):
        self.fault, self.policy, self.two = fault, policy, two
        self.encoding, self.user = encoding, None
        self.pace = pace                # of a shorter play: below 1
        self.results = []

    @property
    def name(self):
        return "%s, %s, %s, %s" % (
            self.fault.name, self.policy,
            "two agents" if self.two else "one agent",
            "JSON" if self.encoding == "json" else "MessagePack")

    # -- the stage

    def set_stage(self, env):
        self.env, self.slow = env, 1 if "release" in env.build else SLOW
        self.rate = (1000 if self.pace == 1 else 500) if self.slow == 1 else 400
        self.fault.prepare(self)
        self.origin = env.fast_origin()
        self.agent = Scripted(env, "waf", self.encoding)
        agents = {"waf": {"timeout": "%dms" % TIMEOUT_MS,
                          "on_failure": self.policy}}
        self.agent.start()
        if self.two:
            # Whatever happens to the other: what it blocks stays blocked.
            self.other = Scripted(env, "auth", "json",
                                  "on request_head path=*7 reply block")
            agents["auth"] = {"timeout": "%dms" % TIMEOUT_MS,
                              "on_failure": "deny"}
            self.other.start()
        config = env.config(self.origin.port, agents, workers=2)
        spawn = {} if self.user is None else {
            "user": self.user, "group": self.user, "extra_groups": []}
        self.d = env.start(config, spawn=spawn)

    def start_load(self):
        first = 1 + sum(r["sent"] for r in self.results)
        self.load = self.env.load(
            self.d, "-c", 1000, "-r", self.rate, "-d", 3600, "-p", "/n/%",
            "-s", first, "-t", 10000, wait=False)

    def progress(self, seconds):
        self.load.wait_progress(self.load.done + self.rate * seconds *
                                self.pace)

    def stop_load(self):
        self.results.append(self.load.stop())
        self.d.wait_idle()
        self.d.wait_metric(0, "connections")

    # -- the play

    def cpu_us(self):
        total, base = 0, "/proc/%d/task" % self.d.proc.pid
        for task in os.listdir(base):
            with open("%s/%s/schedstat" % (base, task)) as f:
                total += int(f.read().split()[0])
        return total / 1e3

    def idle_cpu(self):
        """Part of a core, without requests. What the machine takes away while
        a thread runs counts as the thread's, now and then; what the thread
        does by itself, it does in every window."""
        parts = []
        while len(parts) < IDLE_TRIES and (not parts or
                                           parts[-1] >= IDLE_CPU):
            before, began = self.cpu_us(), time.monotonic()
            time.sleep(self.pace)
            parts.append((self.cpu_us() - before) / 1e6 /
                         (time.monotonic() - began))
        return min(parts)

    def decisions(self):
        return self.d.metric("agent_decisions_total", agent="waf")

    def play(self):
        self.start_load()
        self.progress(0.25)
        self.fault.begin(self)
        began = time.monotonic()
        self.progress(0.8)
        self.stop_load()
        self.idle = self.idle_cpu()
        self.start_load()
        self.progress(0.2)
        self.fault.end(self)
        ended, ended_wall, before = time.monotonic(), time.time(), \
            self.decisions()
        wait_for(lambda: self.decisions() > before, "asked again",
                 LIMIT * self.slow)
        self.lasted, self.recovered = ended - began, time.monotonic() - ended
        self.progress(0.3)
        self.stop_load()
        return ended_wall

    # -- what must hold

    def check_client(self):
        """Each request was answered, once, well and in time."""
        self.status, self.sent, self.worst_ms = {}, 0, 0
        for r in self.results:
            eq(r["ok"], r["sent"], "answered (%r)" % {
                k: r[k] for k in ("cut", "none", "timeout", "framing",
                                  "connect", "mixed")})
            eq((r["twice"], r["unsolicited"]), (0, 0), "answered twice")
            self.sent += r["sent"]
            self.worst_ms = max(self.worst_ms, r["latency_us"]["max"] / 1e3)
            for n, _, status, _ in r["requests"]:
                self.status[n] = status
        eq(len(self.status), self.sent, "numbers")
        check(set(self.status.values()) <= {200, 403, 502, 503, 504},
              set(self.status.values()))
        # A request passes through four processes.
        limit = TIMEOUT_MS + SLACK_MS * self.slow + 4 * self.pause_ms
        check(self.worst_ms <= limit, "a request took %.0f ms, more than %d"
              % (self.worst_ms, limit))

    def check_upstream(self):
        """It got what the client got answers to, and no other."""
        whole, partial = self.origin.numbers()
        eq(partial, [], "half requests")
        eq(len(whole), len(set(whole)), "forwarded twice")
        self.forwarded = set(whole)
        eq(self.forwarded, {n for n, s in self.status.items() if s == 200},
           "forwarded")

    def check_judged(self):
        """Nothing is forwarded without the verdicts that it needs."""
        allowed = {n for n, a in self.agent.answers().items() if a == "allow"}
        self.unjudged = self.forwarded - allowed
        if self.policy == "deny":
            eq(self.unjudged, set(), "forwarded unjudged")
        if not self.two:
            return
        answers = self.other.answers()
        allowed = {n for n, a in answers.items() if a == "allow"}
        eq(self.forwarded - allowed, set(), "forwarded without the other")
        eq({n for n in self.forwarded if n % 10 == 7}, set(), "blocked ones")
        blocked = {n for n, s in self.status.items() if s == 403}
        check(blocked and all(answers.get(n) == "block" for n in blocked),
              "403 without a block")

    def agent_metric(self, name, agent="waf", **labels):
        return int(self.m.get("agent_" + name, agent=agent, **labels))

    def check_laws(self, agent):
        """interface.md's, and that nothing is left."""
        def v(name, **labels):
            return self.agent_metric(name, agent, **labels)
        failures, unsent = v("failures_total"), v("unsent_total")
        eq(failures, v("bypass_total") + v("denied_total"),
           agent + ": failures")
        eq(sum(v("events_total", event=e) for e in
               ("request_head", "request_chunk", "response_head",
                "response_chunk")),
           v("decisions_total") + failures - unsent + v("abandoned_total") +
           v("in_flight"), agent + ": events")
        eq((v("in_flight"), v("queued") if self.m.all("agent_queued")
            else 0), (0, 0), agent + ": left")

    def check_counters(self):
        """They say what the client saw, and so does the access log."""
        self.m = self.d.metrics()
        self.check_laws("waf")
        if self.two:
            self.check_laws("auth")
        self.bypass = self.agent_metric("bypass_total")
        self.denied = self.agent_metric("denied_total")
        self.failures = self.agent_metric("failures_total")
        eq(self.bypass if self.policy == "deny" else self.denied, 0,
           self.policy)
        for code in (2, 4, 5):
            eq(self.m.get("requests_total", code_class="%dxx" % code),
               sum(s // 100 == code for s in self.status.values()),
               "%dxx" % code)
        check(len(self.unjudged) <= self.bypass, "unjudged, not counted")
        if not self.two:
            eq(self.agent_metric("decisions_total", decision="allow") +
               self.bypass, len(self.forwarded), "allowed + bypass")
            eq(self.denied, self.sent - len(self.forwarded), "denied")
        if self.fault.hurts is not None:
            eq(self.failures > 0, self.fault.hurts, "failures")

    def check_log(self, ended):
        verdicts, statuses, last = {}, {}, ended
        lines = self.d.access(self.sent)
        for x in lines:
            n = int(x["target"].rsplit("/", 1)[1])
            statuses[n] = x["status"]
            for a in x["agents"]:
                if a["name"] == "waf":
                    verdicts[a["verdict"]] = verdicts.get(a["verdict"], 0) + 1
                    if a["verdict"].startswith("fail_"):
                        last = max(last, wall(x["time"]))
        eq(statuses, self.status, "the access log's statuses")
        eq((verdicts.get("fail_allow", 0), verdicts.get("fail_deny", 0)),
           (self.bypass, self.denied), "failed verdicts in the access log")
        self.last_failure = last - ended

    def check_times(self):
        if self.slow == 1:
            check(self.idle < IDLE_CPU, "idle: %.2f %% of a core" %
                  (self.idle * 100))
        limit = FAST_MS * self.slow + 4 * self.pause_ms
        if self.fault.breaker:
            limit += 1e3 + self.lasted * 1e3
        check(self.recovered * 1e3 < limit, "a verdict only %.0f ms after the "
              "fault's end, limit %d" % (self.recovered * 1e3, limit))

    def run(self, env):
        self.set_stage(env)
        pauses = Pauses()
        try:
            ended = self.play()
        finally:
            self.pause_ms = pauses.stop()
        self.check_client()
        self.check_upstream()
        self.check_judged()
        self.check_counters()
        self.check_log(ended)
        self.check_times()

    def row(self):
        return ("| %s | %s | %s | %s | %d | %d | %d | %d | %d | %.0f | %.2f | "
                "%.0f | %.0f | %.0f |" % (
                    self.fault.name, self.policy, 2 if self.two else 1,
                    "JSON" if self.encoding == "json" else "MessagePack",
                    self.sent, len(self.forwarded), self.failures,
                    self.denied, self.bypass, self.worst_ms, self.idle * 100,
                    self.recovered * 1e3, self.last_failure * 1e3,
                    self.pause_ms))


def wall(text):
    """RFC 3339 with microseconds, UTC."""
    m = re.fullmatch(r"(.*)\.(\d+)Z", text)
    return calendar.timegm(time.strptime(m.group(1), "%Y-%m-%dT%H:%M:%S")) + \
        float("0." + m.group(2))


def cells():
    for fault in FAULTS:
        for encoding in ("msgpack", "json") if fault.wire else ("msgpack",):
            for two in (False, True):
                for policy in ("deny", "allow"):
                    yield Cell(fault, policy, two, encoding)


HEAD = """\
| fault | policy | agents | encoding | requests | forwarded | failures | \
denied | bypassed | longest ms | idle CPU % | first verdict ms | last failure \
ms | pause ms |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|"""


def write_table(path, rows):
    """Puts the rows below the text that the file begins with."""
    with open(path) as f:
        text = f.read()
    with open(path, "w") as f:
        f.write(text[:text.index("| fault |")])
        f.write("\n".join([HEAD] + rows) + "\n")


def last_words(env):
    """Of the daemons' logs, without a line per exchange."""
    return "\n".join(line for d in env.daemons
                     for line in d.own_log().splitlines()
                     if "agent_failed" not in line)[-4000:]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--build", default=os.path.join(ROOT, "build/release"))
    p.add_argument("--table")
    p.add_argument("words", nargs="*")
    a = p.parse_args()
    rows, bad, began = [], 0, time.monotonic()
    print(HEAD)
    for cell in cells():
        if a.words and not any(w in cell.name for w in a.words):
            continue
        env = Env(os.path.abspath(a.build))
        try:
            cell.run(env)
            env.finish()
            rows.append(cell.row())
        except Skip as e:
            rows.append("| %s | skipped: %s |" % (cell.name, e))
        except Exception as e:
            bad += 1
            rows.append("| %s | FAILED: %s |" % (cell.name, e))
            print(last_words(env), file=sys.stderr)
        finally:
            env.close()
        print(rows[-1], flush=True)
    print("%d cells, %d failed, %.0f s" % (len(rows), bad,
                                           time.monotonic() - began))
    if a.table:
        write_table(a.table, rows)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
