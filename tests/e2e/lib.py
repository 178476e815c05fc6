"""What the end-to-end tests stand on: processes, clients, origins.

Nothing here waits for a time, but always for a condition, with a limit after
which the test fails.
"""
import ctypes
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from agent import Agent

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
LIMIT = float(os.environ.get("E2E_WAIT", "15"))
SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|"
                       r"runtime error:|assert", re.I)


class Skip(Exception):
    pass


def check(cond, text="not so"):
    if not cond:
        raise AssertionError(text)


def eq(got, want, what=""):
    if got != want:
        raise AssertionError("%s: got %.600r, want %.600r" % (what, got, want))


def wait_for(fn, what, limit=None):
    """Calls fn until it returns something true, which is returned."""
    end = time.monotonic() + (limit or LIMIT)
    while True:
        v = fn()
        if v:
            return v
        if time.monotonic() > end:
            raise AssertionError("waited in vain: " + what)
        time.sleep(0.002)


def can_connect(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


# ---- a client that sees bytes ------------------------------------------------

class Response:
    def __init__(self, status, reason, version, headers):
        self.status, self.reason, self.version = status, reason, version
        self.headers = headers          # list of (name, value)
        self.body, self.trailers = b"", []

    def get(self, name, default=None):
        for n, v in self.headers:
            if n.lower() == name.lower():
                return v
        return default

    def all(self, name):
        return [v for n, v in self.headers if n.lower() == name.lower()]

    @property
    def text(self):
        return self.body.decode("latin-1")


class Raw:
    """One connection; every read has a time limit."""

    def __init__(self, port, limit=None, rcvbuf=None):
        self.sock = socket.socket()
        if rcvbuf:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.sock.settimeout(limit or LIMIT)
        self.sock.connect(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buf = b""

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def request(self, method="GET", target="/", headers=(), body=None,
                host="test.example", version="1.1"):
        lines = ["%s %s HTTP/%s" % (method, target, version)]
        headers = list(headers.items() if isinstance(headers, dict)
                       else headers)
        if host is not None:
            headers.insert(0, ("Host", host))
        if body is not None and not any(
                n.lower() in ("content-length", "transfer-encoding")
                for n, _ in headers):
            headers.append(("Content-Length", str(len(body))))
        lines += ["%s: %s" % h for h in headers]
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
                  + (body or b""))

    def fill(self):
        got = self.sock.recv(1 << 16)
        if not got:
            raise EOFError("closed; had %r" % self.buf[:200])
        self.buf += got

    def until(self, mark):
        while mark not in self.buf:
            self.fill()
        at = self.buf.index(mark) + len(mark)
        out, self.buf = self.buf[:at], self.buf[at:]
        return out

    def exactly(self, n):
        while len(self.buf) < n:
            self.fill()
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def head(self):
        text = self.until(b"\r\n\r\n").decode("latin-1")
        lines = text[:-4].split("\r\n")
        m = re.fullmatch(r"HTTP/(1\.[01]) (\d{3}) ?(.*)", lines[0])
        check(m, "bad status line: %r" % lines[0])
        headers = []
        for line in lines[1:]:
            n, colon, v = line.partition(":")
            check(colon and n and n == n.strip(), "bad field: %r" % line)
            headers.append((n, v.strip()))
        return Response(int(m.group(2)), m.group(3), m.group(1), headers)

    def chunk(self):
        """One chunk of a chunked body; b"" is the last (then: trailers)."""
        size = int(self.until(b"\r\n")[:-2].split(b";")[0], 16)
        if size == 0:
            return b""
        data = self.exactly(size)
        eq(self.exactly(2), b"\r\n", "end of chunk")
        return data

    def trailers(self):
        out = []
        while True:
            line = self.until(b"\r\n")[:-2].decode("latin-1")
            if not line:
                return out
            n, _, v = line.partition(":")
            out.append((n, v.strip()))

    def response(self, method="GET", final=True):
        r = self.head()
        while final and 100 <= r.status < 200 and r.status != 101:
            r = self.head()
        lengths, coding = r.all("content-length"), r.get("transfer-encoding")
        check(len(lengths) <= 1 and not (lengths and coding),
              "two kinds of framing: %r" % r.headers)
        if method == "HEAD" or r.status in (204, 304) or r.status < 200:
            return r
        if coding:
            eq(coding.lower(), "chunked", "coding")
            while True:
                data = self.chunk()
                if not data:
                    break
                r.body += data
            r.trailers = self.trailers()
        elif lengths:
            r.body = self.exactly(int(lengths[0]))
        else:
            try:
                while True:
                    self.fill()
            except EOFError:
                r.body, self.buf = self.buf, b""
        return r

    def closed(self):
        """The other side closes, without another byte."""
        try:
            got = self.buf or self.sock.recv(65536)
        except ConnectionResetError:
            return True
        check(not got, "more bytes: %r" % got[:200])
        return True

    def close(self, hard=False):
        if hard:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                                 b"\1\0\0\0\0\0\0\0")
        self.sock.close()


def fetch(port, method="GET", target="/", headers=(), body=None, **more):
    c = Raw(port)
    try:
        c.request(method, target, headers, body, **more)
        return c.response(method)
    finally:
        c.close()


# ---- an upstream that a test can hold in its hand ------------------------------

class Exchange(Raw):
    """One request as the upstream sees it."""

    def __init__(self, sock, buf=b""):
        self.sock, self.buf = sock, buf
        sock.settimeout(LIMIT)

    def read_head(self):
        self.raw_head = self.until(b"\r\n\r\n")
        lines = self.raw_head.decode("latin-1")[:-4].split("\r\n")
        self.method, self.target, self.version = lines[0].split(" ")
        self.headers = [(n, v.strip()) for n, _, v in
                        (line.partition(":") for line in lines[1:])]
        return self

    def get(self, name, default=None):
        return Response.get(self, name, default)

    def all(self, name):
        return Response.all(self, name)

    def read_body(self):
        body, self.request_trailers = b"", []
        if self.get("transfer-encoding"):
            while True:
                data = self.chunk()
                if not data:
                    break
                body += data
            self.request_trailers = self.trailers()
        elif self.get("content-length"):
            body = self.exactly(int(self.get("content-length")))
        self.body = body
        return body

    def answer(self, status=200, body=b"", headers=(), chunked=False):
        out = "HTTP/1.1 %d Upstream\r\n" % status
        for n, v in headers:
            out += "%s: %s\r\n" % (n, v)
        if chunked:
            out += "Transfer-Encoding: chunked\r\n"
            data = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif status in (204, 304) or status < 200:
            data = b""
        else:
            out += "Content-Length: %d\r\n" % len(body)
            data = b"" if self.method == "HEAD" else body
        self.send(out.encode("latin-1") + b"\r\n" + data)


class Origin:
    """serve(exchange) is called for every request; False closes."""

    def __init__(self, port, serve=None):
        self.port, self.seen, self.errors = port, [], []
        self.serve = serve or Origin.echo
        self.connections = 0
        self.changed = threading.Condition()
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.sock.bind(("127.0.0.1", port))
        self.sock.listen(512)
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    @staticmethod
    def echo(x):
        body = x.read_body()
        x.answer(200, b"%s %s\n" % (x.method.encode(), x.target.encode())
                 + body)

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            self.connections += 1
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.run, args=(sock,),
                             daemon=True).start()

    def run(self, sock):
        buf = b""
        try:
            while True:
                x = Exchange(sock, buf)
                x.read_head()
                with self.changed:
                    self.seen.append(x)
                    self.changed.notify_all()
                if self.serve(x) is False:
                    return
                buf = x.buf
        except (EOFError, OSError):
            pass
        except Exception as e:
            self.errors.append(repr(e))
        finally:
            sock.close()

    def wait(self, n=1):
        with self.changed:
            check(self.changed.wait_for(lambda: len(self.seen) >= n, LIMIT),
                  "the upstream got %d requests, not %d"
                  % (len(self.seen), n))
            return self.seen[n - 1]

    def stop(self):
        """Wakes the thread first: it would accept for the next origin that
        gets the same descriptor."""
        self.sock.shutdown(socket.SHUT_RDWR)
        self.acceptor.join(LIMIT)
        self.sock.close()


class Adopted:
    """A process that is not our child by birth (we adopt orphans): as
    Popen."""

    def __init__(self, pid):
        self.pid, self.returncode = pid, None

    def poll(self):
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:   # its parent lives
                return None if os.path.exists("/proc/%d" % self.pid) else -1
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def send_signal(self, sig):
        os.kill(self.pid, sig)

    def kill(self):
        os.kill(self.pid, signal.SIGKILL)

    def wait(self, limit=None):
        end = time.monotonic() + (limit or 3600)
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("adopted", limit)
            time.sleep(0.01)
        return self.returncode


# ---- processes -----------------------------------------------------------------

class Daemon:
    def __init__(self, env, config, ready, expect_exit=0, binary=None,
                 spawn=None):
        self.env, self.config, self.expect_exit = env, config, expect_exit
        self.file = os.path.join(env.dir, "agentproxyd.yaml")
        self.log_path = os.path.join(env.dir, "daemon.log")
        self.access_path = config["log"]["access"].get("path")
        self.admin_port = int(config["admin"]["address"].rsplit(":")[-1])
        self.port = int(config["listeners"][0]["address"].rsplit(":")[-1])
        self.write()
        self.log = open(self.log_path, "wb")
        self.proc = env.spawn([binary or env.binary("agentproxyd"), "-c",
                               self.file], stdout=self.log, stderr=self.log,
                              **(spawn or {}))
        if ready:
            wait_for(self.is_ready, "/readyz is 200")
        else:
            wait_for(lambda: self.alive() and can_connect(self.port)
                     and can_connect(self.admin_port), "the sockets")

    def write(self):
        # JSON is YAML; conf/ has the block style, which -t tests.
        with open(self.file + ".new", "w") as f:
            json.dump(self.config, f, indent=1)
        os.rename(self.file + ".new", self.file)

    def alive(self):
        check(self.proc.poll() is None, "the daemon ended: %s"
              % self.proc.returncode)
        return True

    def admin(self, path, method="GET"):
        return fetch(self.admin_port, method, path)

    def is_ready(self):
        self.alive()
        try:
            return self.admin("/readyz").status == 200
        except (OSError, EOFError):
            return False

    def metrics(self):
        return Metrics(self.admin("/metrics").text)

    def metric(self, name, **labels):
        return self.metrics().get(name, **labels)

    def wait_metric(self, want, name, **labels):
        try:
            wait_for(lambda: self.metric(name, **labels) == want,
                     "%s%r is %s" % (name, labels, want))
        except AssertionError as e:
            raise AssertionError("%s; it is %s" % (
                e, self.metric(name, **labels)))

    def wait_idle(self):
        self.wait_metric(0, "exchanges_in_flight")

    def access(self, n=1):
        """The first n lines of the access log, as soon as they are there."""
        def lines():
            with open(self.access_path) as f:
                text = f.read()
            return text.count("\n") >= n and text
        text = wait_for(lines, "%d lines in the access log" % n)
        return [json.loads(line) for line in text.split("\n")[:n]]

    def own_log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def rss_kib(self, key="VmRSS"):
        with open("/proc/%d/status" % self.proc.pid) as f:
            return int(re.search(key + r":\s+(\d+)", f.read()).group(1))

    def reload(self):
        before = self.metric("config_generation")
        self.write()
        self.proc.send_signal(signal.SIGHUP)
        wait_for(lambda: self.metric("config_generation") > before,
                 "a new generation")

    def handover(self, wait=True):
        """USR2: self.proc is the new process then. The old one."""
        n = len(self.handovers())
        old = self.proc
        old.send_signal(signal.SIGUSR2)
        wait_for(lambda: len(self.handovers()) > n, "the hand-over")
        self.adopt()
        if wait:
            eq(old.wait(LIMIT), 0, "exit status of the old process")
        return old

    def adopt(self):
        self.proc = Adopted(int(self.handovers()[-1]))
        self.env.procs.append(self.proc)

    def handovers(self):
        return re.findall(r"event=handover result=ok pid=(\d+)",
                          self.own_log())

    def stop(self, sig=signal.SIGTERM):
        if self.proc.poll() is None:
            self.proc.send_signal(sig)
        try:
            rc = self.proc.wait(LIMIT + 15)
        except subprocess.TimeoutExpired:
            self.proc.kill()
            raise AssertionError("the daemon does not stop")
        eq(rc, self.expect_exit, "exit status of the daemon")


class Metrics:
    def __init__(self, text):
        self.values = {}
        for line in text.splitlines():
            m = re.fullmatch(r"agentproxyd_(\w+)(?:\{(.*)\})? (\S+)", line)
            if m:
                labels = tuple(sorted(re.findall(r'(\w+)="([^"]*)"',
                                                 m.group(2) or "")))
                self.values[m.group(1), labels] = float(m.group(3))

    def all(self, name, **labels):
        want = set(labels.items())
        return {k[1]: v for k, v in self.values.items()
                if k[0] == name and want <= set(k[1])}

    def get(self, name, **labels):
        """The sum over all series that have these labels."""
        found = self.all(name, **labels)
        check(found, "no series %s%r" % (name, labels))
        return sum(found.values())


class Env:
    """All that a test starts, and that ends with it."""

    def __init__(self, build):
        # PR_SET_CHILD_SUBREAPER: what a daemon leaves behind comes to us.
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        self.build = build
        self.dir = tempfile.mkdtemp(prefix="e2e-")
        self.procs, self.things, self.daemons = [], [], []
        self.ports = []

    def binary(self, name):
        path = os.path.join(self.build, name)
        if not os.path.exists(path):
            raise AssertionError("not built: " + path)
        return path

    def path(self, name):
        return os.path.join(self.dir, name)

    def port(self):
        """Below the range that the system takes for outgoing connections. A
        name in the abstract space keeps it ours beside other runs."""
        for _ in range(1000):
            port = 10000 + int.from_bytes(os.urandom(2), "big") % 20000
            s, mine = socket.socket(), socket.socket(socket.AF_UNIX)
            try:
                s.bind(("127.0.0.1", port))
                mine.bind("\0agentproxyd-e2e-port-%d" % port)
            except OSError:
                mine.close()
                continue
            finally:
                s.close()
            self.ports.append(mine)
            return port
        raise AssertionError("no free port")

    def spawn(self, argv, **more):
        p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, **more)
        self.procs.append(p)
        return p

    def agent(self, name="waf", handler=None, encoding="json", limits=None):
        a = Agent(self.path(name + ".sock"), handler, encoding, limits=limits)
        self.things.append(a)
        return a

    def agent_process(self, name="waf", encoding="json"):
        """An agent of its own that allows everything: to be killed."""
        path = self.path(name + ".sock")
        p = self.spawn(["python3", os.path.join(HERE, "agent.py"), path,
                        encoding])
        wait_for(lambda: os.path.exists(path), "the agent's socket")
        return p

    def origin(self, serve=None):
        o = Origin(self.port(), serve)
        self.things.append(o)
        return o

    def fast_origin(self, body=3):
        """tests/load/origin: .port, and numbers() that it got."""
        port = self.port()
        tool = os.path.join(ROOT, "build/release/tests/load/origin")
        self.spawn([tool, "-l", "127.0.0.1:%d" % port, "-b", str(body)])
        wait_for(lambda: can_connect(port), "the origin")
        return FastOrigin(port)

    def nginx(self, server):
        if not shutil.which("nginx") and not os.path.exists("/usr/sbin/nginx"):
            raise Skip("no nginx")
        port = self.port()
        conf = self.path("nginx.conf")
        with open(conf, "w") as f:
            f.write("""daemon off; master_process off; pid %s/nginx.pid;
error_log %s/nginx.log; events { worker_connections 1024; }
http { access_log off; client_body_temp_path %s/nginx-body;
proxy_temp_path %s/p; fastcgi_temp_path %s/f; uwsgi_temp_path %s/u;
scgi_temp_path %s/s; keepalive_requests 1000000;
server { listen 127.0.0.1:%d; %s } }
""" % ((self.dir,) * 7 + (port, server)))
        self.spawn([shutil.which("nginx") or "/usr/sbin/nginx", "-e",
                    self.path("nginx.log"), "-c", conf])
        wait_for(lambda: can_connect(port), "nginx")
        return port

    def config(self, upstream, agents=None, route=None, listener=None,
               **more):
        """upstream: port, or list of ports. agents: {name: {overrides}}."""
        ports = upstream if isinstance(upstream, list) else [upstream]
        names = list(agents or {})
        c = {
            "workers": 1,
            "admin": {"address": "127.0.0.1:%d" % self.port()},
            "log": {"level": os.environ.get("E2E_LOG", "info"), "access": {
                "path": self.path("access.log"), "format": "json"}},
            "listeners": [dict({"name": "main", "address":
                                "127.0.0.1:%d" % self.port()},
                               **(listener or {}))],
            "upstreams": {"app": {"servers": ["127.0.0.1:%d" % p
                                              for p in ports]}},
            "routes": [dict({"name": "all", "upstream": "app",
                             "agents": names}, **(route or {}))],
        }
        if names:
            c["agents"] = {n: dict({"socket": self.path(n + ".sock"),
                                    "on_failure": "deny"}, **o)
                           for n, o in agents.items()}
        c.update(more)
        return c

    def start(self, config, ready=True, **more):
        d = Daemon(self, config, ready, **more)
        self.daemons.append(d)
        return d

    def proxy(self, upstream, agents=None, route=None, ready=True, **more):
        return self.start(self.config(upstream, agents, route, **more), ready)

    def load(self, d, *args, wait=True):
        """tests/load/load at the daemon: a dict, or a running Load."""
        load = Load(self, d.port, args)
        return load.result() if wait else load

    def finish(self):
        """After a test that went well: everything ends as it should."""
        for d in self.daemons:
            d.stop()
        for d in self.daemons:
            bad = [line for line in d.own_log().splitlines()
                   if SANITIZER.search(line)]
            check(not bad, "\n".join(bad[:20]))
        for t in self.things:
            check(not t.errors, "seen by a peer: %r" % t.errors[:5])

    def tail(self):
        out = []
        for d in self.daemons:
            out += self.logs.get(d, [])
        return out

    def close(self):
        self.logs = {}
        for d in self.daemons:
            if d.proc.poll() is None:
                d.proc.kill()
                d.proc.wait()
            lines = d.own_log().splitlines()
            bad = [i for i, line in enumerate(lines)
                   if SANITIZER.search(line)]
            self.logs[d] = (lines[bad[0] - 1:bad[0] + 60] if bad
                            else lines[-15:])
            d.log.close()
        for p in self.procs:
            if p.poll() is None:
                try:
                    p.send_signal(signal.SIGCONT)
                    p.kill()
                    p.wait()
                except OSError:
                    pass
        for t in self.things:
            t.stop()
        for s in self.ports:
            s.close()
        shutil.rmtree(self.dir, ignore_errors=True)


class FastOrigin:
    def __init__(self, port):
        self.port = port

    def numbers(self):
        """(complete, partial) as lists of int."""
        whole, part = [], []
        for line in fetch(self.port, "GET", "/numbers").text.splitlines():
            n, _, mark = line.partition(" ")
            (part if mark else whole).append(int(n))
        return whole, part


class Load:
    def __init__(self, env, port, args):
        self.lines_path = env.path("load-%d.lines" % len(env.procs))
        tool = os.path.join(ROOT, "build/release/tests/load/load")
        self.proc = env.spawn(
            [tool, "-u", "127.0.0.1:%d" % port, "-P", "-l", self.lines_path]
            + [str(a) for a in args], stdout=subprocess.PIPE, text=True)
        self.done, self.summary = 0, None
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.proc.stdout:
            if line.startswith("progress"):
                self.done = int(line.split()[1])
            else:
                self.summary = json.loads(line)

    def wait_progress(self, n):
        wait_for(lambda: self.done >= n or self.summary, "%d answers" % n)

    def stop(self):
        self.proc.terminate()
        return self.result()

    def result(self, limit=120):
        self.reader.join(limit)
        check(self.summary, "the load has no end")
        self.proc.wait()
        with open(self.lines_path) as f:
            rows = [line.split() for line in f]
        self.summary["requests"] = [
            (int(n), result, int(status), int(us))
            for n, result, status, us, _ in rows]
        return self.summary
