"""Processes of a benchmark: started on a core, watched, ended by their id."""
import json
import os
import signal
import socket
import subprocess
import time

PROXY_CPU, LOAD_CPU = 0, 1


def run_first():
    """Of a process that is to come before all others on its core."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        pass            # not allowed: as the others


def run_last():
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


class Awake:
    """Keeps both cores from sleeping, by what gives way to anything else: to
    wake a virtual core takes longer than a proxy's part."""

    def __enter__(self):
        self.processes = [subprocess.Popen(
            ["taskset", "-c", str(cpu), "sh", "-c", "while :; do :; done"],
            preexec_fn=run_last) for cpu in (PROXY_CPU, LOAD_CPU)]

    def __exit__(self, *_):
        for p in self.processes:
            p.kill()
            p.wait()


class Process:
    def __init__(self, command, cpu, log, env=None):
        self.log = log
        self.command = command
        with open(log, "w") as f:
            self.process = subprocess.Popen(
                ["taskset", "-c", str(cpu)] + command, stderr=f,
                stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
                env=dict(os.environ, **(env or {})))

    @property
    def pid(self):
        return self.process.pid

    def tree(self):
        """Its process and all below it."""
        found, todo = [], [self.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for task in tasks(pid):
                try:
                    with open(f"/proc/{pid}/task/{task}/children") as f:
                        todo += [int(p) for p in f.read().split()]
                except OSError:
                    pass
        return found

    def cpu(self):
        """Microseconds of CPU used so far, and the part spent in the kernel
        (in ticks, so coarse)."""
        total = kernel = 0
        tick = 1e6 / os.sysconf("SC_CLK_TCK")
        for pid in self.tree():
            for task in tasks(pid):
                total += schedstat(pid, task) / 1000
            with open(f"/proc/{pid}/stat") as f:
                kernel += int(f.read().rsplit(")", 1)[1].split()[12]) * tick
        return total, kernel

    def rss(self):
        """Bytes of memory, shared pages divided among those who share."""
        total = 0
        for pid in self.tree():
            with open(f"/proc/{pid}/smaps_rollup") as f:
                for line in f:
                    if line.startswith("Pss:"):
                        total += int(line.split()[1]) * 1024
        return total

    def totals(self):
        """What a counting agent prints when it is asked."""
        self.process.send_signal(signal.SIGUSR1)
        return json.loads(self.process.stdout.readline())

    def heads(self):
        return self.totals()["heads"]

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.alive():
            # Under a tracer the traced one is told, and both end.
            for pid in reversed(self.tree()):
                try:
                    os.kill(pid, signal.SIGTERM)
                except OSError:
                    pass
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                for pid in self.tree():
                    os.kill(pid, signal.SIGKILL)
                self.process.wait()
        self.process.stdout.close()

    def last_words(self):
        with open(self.log) as f:
            return f.read()[-800:]


def tasks(pid):
    try:
        return [int(t) for t in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def schedstat(pid, task):
    try:
        with open(f"/proc/{pid}/task/{task}/schedstat") as f:
            return int(f.read().split()[0])
    except OSError:
        return 0


def wait_listening(address, process=None, seconds=10):
    """address: (ip, port) or a path."""
    end = time.monotonic() + seconds
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    while time.monotonic() < end:
        if process and not process.alive():
            return False
        with socket.socket(family, socket.SOCK_STREAM) as s:
            try:
                s.connect(address)
                return True
            except OSError:
                time.sleep(0.02)
    return False
