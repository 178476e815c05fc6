"""What systemd sees: sd_notify, the watchdog, the units."""
import ctypes
import os
import signal
import socket

from lib import check, eq, fetch, wait_for

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
