"""What systemd sees: sd_notify, the watchdog, the units."""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess

from lib import ROOT, Skip, check, eq, fetch, wait_for

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, env):
        self.path = env.path("notify")
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.bind(self.path)
        self.sock.setblocking(False)
        self.texts = []

    def got(self):
        while True:
            try:
                self.texts.append(self.sock.recv(4096).decode())
            except BlockingIOError:
                return self.texts

    def wait(self, text):
        wait_for(lambda: any(text in t for t in self.got()), text)

    def environment(self, **more):
        return {"env": dict(os.environ, NOTIFY_SOCKET=self.path, **more)}


def test_service_notify(env):
    s = Systemd(env)
    d = env.start(env.config(env.origin().port), spawn=s.environment())
    s.wait("READY=1")
    s.texts.clear()
    d.reload()
    s.wait("READY=1")
    check("RELOADING=1" in s.texts[0] and "MONOTONIC_USEC=" in s.texts[0])
    s.texts.clear()
    d.handover()
    s.wait("READY=1")
    # First the old one says who it is, then that one speaks.
    eq([t.split("\n")[0] for t in s.texts],
       ["MAINPID=%d" % d.proc.pid, "READY=1"])
    s.texts.clear()
    d.stop()
    s.wait("STOPPING=1")


def thread_of(pid, name):
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/comm" % (pid, tid)) as f:
            if f.read().strip() == name:
                return int(tid)
    raise AssertionError("no thread " + name)


def test_service_watchdog(env):
    """Fed while all loops turn; not when one is stuck."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long] * 4
    s = Systemd(env)
    d = env.start(env.config(env.origin().port, workers=2),
                  spawn=s.environment(WATCHDOG_USEC="400000"))
    s.wait("WATCHDOG=1")
    s.texts.clear()
    s.wait("WATCHDOG=1")
    tid = thread_of(d.proc.pid, "worker-1")
    eq(libc.ptrace(PTRACE_SEIZE, tid, 0, 0), 0, "ptrace")
    eq(libc.ptrace(PTRACE_INTERRUPT, tid, 0, 0), 0)
    os.waitpid(tid, 0x40000000)         # __WALL
    wait_for(lambda: "event=worker_stuck worker=1" in d.own_log(), "the line")
    s.got()
    s.texts.clear()
    eq(d.admin("/livez").status, 200)
    began = d.metric("start_time_seconds")
    check(began)
    eq([t for t in s.got() if "WATCHDOG" in t], [])
    eq(libc.ptrace(PTRACE_DETACH, tid, 0, 0), 0)
    wait_for(lambda: "event=worker_moves worker=1" in d.own_log(), "the line")
    s.wait("WATCHDOG=1")
    d.handover()
    s.texts.clear()
    s.wait("WATCHDOG=1")
    eq(fetch(d.port).status, 200)


def test_service_watchdog_of_another(env):
    """WATCHDOG_PID is not ours: nothing is fed."""
    s = Systemd(env)
    d = env.start(env.config(env.origin().port), spawn=s.environment(
        WATCHDOG_USEC="100000", WATCHDOG_PID="1"))
    s.wait("READY=1")
    d.proc.send_signal(signal.SIGHUP)
    d.wait_metric(2, "config_generation")
    check(not any("WATCHDOG" in t for t in s.got()))


# ---- files ---------------------------------------------------------------------

def read(name):
    with open(os.path.join(ROOT, name)) as f:
        return f.read()


def names_in(text):
    """Metrics, and each with the labels that stand in its braces."""
    for m in re.finditer(r"\bagentproxyd_(\w+)(?:\{([^}]*)\})?", text):
        yield m.group(1), dict(re.findall(r'(\w+)[!=~]+\\?"([^"\\]*)\\?"',
                                          m.group(2) or ""))


def test_service_monitoring_names(env):
    """Dashboard and alerts use names and labels that /metrics has."""
    env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {}})
    have = {}
    for (name, labels) in d.metrics().values:
        have.setdefault(name, set()).update(dict(labels))
        have.setdefault((name, "values"), set()).update(labels)
    for path in ("conf/grafana-dashboard.json", "conf/alerts.yaml"):
        n = 0
        for name, labels in names_in(read(path)):
            n += 1
            check(name in have, "%s: no metric %s" % (path, name))
            for label, value in labels.items():
                if label == "instance":         # Prometheus' own
                    continue
                check(label in have[name], "%s: %s has no label %s"
                      % (path, name, label))
                check((label, value) in have[name, "values"],
                      "%s: %s has no %s=%s" % (path, name, label, value))
        check(n > 10, path)
    # What they group by.
    for path in ("conf/grafana-dashboard.json", "conf/alerts.yaml"):
        for labels, name in re.findall(
                r"by \(([\w, ]+)\)\s*\(?(?:rate\()?agentproxyd_(\w+)",
                read(path)):
            for label in labels.split(", "):
                check(label in have[name] | {"instance", "le"},
                      "%s: %s by %s" % (path, name, label))
    json.loads(read("conf/grafana-dashboard.json"))


def test_service_units(env):
    """systemd finds no fault in the units, and their sandbox is tight."""
    if not shutil.which("systemd-analyze"):
        raise Skip("no systemd-analyze: apt-get install systemd")
    for unit in ("agentproxyd.service", "agentproxyd-agent@.service"):
        path = os.path.join(ROOT, "systemd", unit)
        out = subprocess.run(
            ["systemd-analyze", "security", "--offline=true",
             "--threshold=20", path], capture_output=True, text=True)
        level = re.search(r"exposure level for \S+: ([\d.]+)", out.stdout)
        check(level, out.stdout + out.stderr)
        check(float(level.group(1)) <= 2.0, level.group(0))
        eq(out.returncode, 0, level.group(0))


def test_service_completion(env):
    """All options of the help are completed."""
    text = subprocess.run([env.binary("agentproxyd"), "-h"],
                          capture_output=True, text=True).stdout
    offered = ""
    for words in "a -", "a check-agent -":
        out = subprocess.run(
            ["bash", "-c", ". %s/packaging/agentproxyd.bash; "
             "COMP_WORDS=(%s); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); "
             "_agentproxyd; echo ${COMPREPLY[@]}" % (ROOT, words)],
            capture_output=True, text=True)
        eq(out.stderr, "")
        offered += out.stdout
    options = set(re.findall(r"(?<![\w-])--?[a-zA-Z][\w-]*", text))
    check(options and options <= set(offered.split()),
          "%r of %r" % (options, offered))


def test_service_install(env):
    """make install DESTDIR= leaves all files that it should."""
    flavour = os.path.basename(env.build)
    out = subprocess.run(["make", "-s", "-C", ROOT, "install",
                          "FLAVOUR=" + flavour, "DESTDIR=" + env.dir],
                         capture_output=True, text=True)
    eq(out.returncode, 0, out.stderr)
    for path in ("usr/sbin/agentproxyd", "usr/libexec/agentproxyd/denylist",
                 "usr/share/man/man8/agentproxyd.8",
                 "etc/agentproxyd/agentproxyd.yaml",
                 "etc/agentproxyd/agents/denylist.env",
                 "usr/lib/systemd/system/agentproxyd.service",
                 "usr/lib/systemd/system/agentproxyd-agent@.service",
                 "usr/lib/sysusers.d/agentproxyd.conf",
                 "usr/share/agentproxyd/grafana-dashboard.json",
                 "usr/share/agentproxyd/alerts.yaml",
                 "usr/include/agentproxy.h", "usr/lib/libagentproxy.a",
                 "usr/lib/libagentproxy.so", "usr/lib/libagentproxy.so.0",
                 "usr/lib/pkgconfig/libagentproxy.pc",
                 "usr/share/bash-completion/completions/agentproxyd"):
        check(os.path.exists(env.path(path)), path)
    # The units name what was installed.
    for unit in ("agentproxyd.service", "agentproxyd-agent@.service"):
        for program in re.findall(r"Exec\w+=(/usr\S+)", read("systemd/" + unit)):
            program = program.replace("%i", "denylist")
            check(os.access(env.dir + program, os.X_OK), program)
