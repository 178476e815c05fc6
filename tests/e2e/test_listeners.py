"""Where clients connect, and each limit and time-out of theirs, key by key."""
import json
import os
import resource
import socket
import stat
import time

from lib import Raw, check, eq, fetch, wait_for


class UnixRaw(Raw):
    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(15)
        self.sock.connect(path)
        self.buf = b""


def unix_get(path, target="/", fields=()):
    c = UnixRaw(path)
    try:
        c.request(target=target, headers=fields)
        return c.response()
    finally:
        c.close()


def mode(path):
    return stat.S_IMODE(os.stat(path).st_mode)


def test_unix_listener(env):
    """Its mode, and what a client without an address is called."""
    o = env.origin()
    path, open_path = env.path("in.sock"), env.path("open.sock")
    c = env.config(o.port)
    c["listeners"] += [
        {"name": "local", "address": "unix:" + path, "mode": "0600"},
        {"name": "open", "address": "unix:" + open_path}]
    d = env.start(c)
    eq((mode(path), mode(open_path)), (0o600, 0o666))
    eq(unix_get(path, "/u").body, b"GET /u\n")
    eq(unix_get(open_path, "/v").body, b"GET /v\n")
    eq(fetch(d.port, target="/t").body, b"GET /t\n")
    eq([(x["listener"], x["client"]) for x in d.access(3)],
       [("local", "unix"), ("open", "unix"), ("main", "127.0.0.1")])
    eq(o.seen[0].get("x-forwarded-for"), "unix")
    d.config["listeners"][1]["mode"] = "0640"       # the same socket
    before = os.stat(path).st_ino
    d.reload()
    wait_for(lambda: mode(path) == 0o640, "the new mode")
    eq(os.stat(path).st_ino, before)
    del d.config["listeners"][1]
    d.reload()
    wait_for(lambda: not os.path.exists(path), "the file goes")
    eq(unix_get(open_path).status, 200)


def test_unix_listener_trusted(env):
    """Who terminates TLS in front of us may come by a Unix socket."""
    o = env.origin()
    plain, trusted = env.path("plain.sock"), env.path("trusted.sock")
    c = env.config(o.port)
    c["listeners"] += [
        {"name": "plain", "address": "unix:" + plain},
        {"name": "trusted", "address": "unix:" + trusted,
         "trusted_proxies": ["unix", "10.0.0.0/8"]}]
    d = env.start(c)
    for path in (plain, trusted):
        unix_get(path, "/", {"X-Forwarded-For": "192.0.2.9, 10.1.2.3",
                             "X-Forwarded-Proto": "https"})
    eq([(x.get("x-forwarded-for"), x.get("x-forwarded-proto"))
        for x in o.seen], [("unix", "http"),
                           ("192.0.2.9, 10.1.2.3, unix", "https")])
    eq([x["client"] for x in d.access(2)], ["unix", "192.0.2.9"])
    eq(json.loads(d.admin("/config").text)["config"]["listeners"][2]
       ["trusted_proxies"], ["unix", "10.0.0.0/8"])


def test_many_listeners(env):
    """Each has its own limits and counters."""
    o = env.origin()
    c = env.config(o.port, listener={"limits": {"body": 10}})
    ports = [env.port() for _ in range(3)]
    for i, p in enumerate(ports):
        c["listeners"].append({
            "name": "more%d" % i, "address": "127.0.0.1:%d" % p,
            "limits": {"body": 10 * (i + 2)}})
    c["listeners"].append({"name": "six", "address": "[::1]:%d" % ports[0]})
    c["workers"] = 2
    d = env.start(c)
    for i, p in enumerate([d.port] + ports):
        eq(fetch(p, "POST", "/", body=b"x" * 10 * (i + 1)).status, 200)
        eq(fetch(p, "POST", "/", body=b"x" * (10 * (i + 1) + 1)).status, 413)
    s = socket.create_connection(("::1", ports[0]), 10)
    s.sendall(b"GET /six HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    check(s.recv(65536).startswith(b"HTTP/1.1 200"))
    s.close()
    eq(d.metric("connections_total", listener="more1"), 2)
    line = d.access(9)[8]
    eq((line["listener"], line["client"]), ("six", "::1"))


# ---- time-outs -----------------------------------------------------------------

def slow(x):
    """The target says how to be slow."""
    if x.target == "/never":
        try:
            x.fill()
        except (EOFError, OSError):
            pass
        return False
    if x.target == "/stall":
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        try:
            x.fill()
        except (EOFError, OSError):
            pass
        return False
    if x.target == "/drip":
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        for _ in range(6):
            time.sleep(0.12)
            x.send("x")
        return None
    x.read_body()
    x.answer(200, b"x" * (8 << 20) if x.target == "/big" else b"ok")
    return None


def timed(env, listener=None, upstream=None):
    c = env.config(env.origin(slow).port,
                   listener={"timeouts": listener or {}})
    c["upstreams"]["app"]["timeouts"] = upstream or {}
    return env.start(c)


def took(since, low, high=10):
    s = time.monotonic() - since
    check(low <= s < high, "%.3f s, not %s to %s" % (s, low, high))


def test_timeout_header(env):
    """For the whole head, not between two bytes of it."""
    d = timed(env, {"header": "400ms"})
    c = Raw(d.port)
    began = time.monotonic()
    c.send("GET / HTTP/1.1\r\nHost: a\r\n")
    for i in range(3):
        time.sleep(0.1)
        c.send("X-%d: 1\r\n" % i)
    eq(c.response().status, 408)
    took(began, 0.39)
    eq(d.access()[0]["ended_why"], "header_timeout")


def test_timeout_body(env):
    """Between two reads: a slow body that comes is not cut."""
    d = timed(env, {"body": "400ms"})
    c = Raw(d.port)
    c.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
    for _ in range(6):
        time.sleep(0.1)
        c.send("x")
    eq(c.response().status, 200)
    began = time.monotonic()
    c.send("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nx")
    eq(c.response().status, 408)
    took(began, 0.39)
    eq(d.access(2)[1]["ended_why"], "body_timeout")


def test_timeout_idle(env):
    d = timed(env, {"idle": "300ms"})
    c = Raw(d.port)
    c.request()
    eq(c.response().status, 200)
    began = time.monotonic()
    c.closed()
    took(began, 0.25)
    eq(len(d.access()), 1)


def test_timeout_send(env):
    """A client that does not read: cut, and the exchange is over."""
    d = timed(env, {"send": "300ms"})
    c = Raw(d.port, rcvbuf=4096)
    began = time.monotonic()
    c.request(target="/big")
    line = d.access()[0]
    took(began, 0.29)
    eq((line["ended_by"], line["ended_why"]), ("client", "send_timeout"))


def test_timeout_total(env):
    """Nothing to send yet: 504. After that: cut."""
    d = timed(env, {"total": "400ms"})
    began = time.monotonic()
    eq(fetch(d.port, target="/never").status, 504)
    took(began, 0.39)
    eq(d.access()[0]["ended_why"], "total_timeout")
    c = Raw(d.port)
    c.request(target="/drip")
    try:
        c.response()
        raise AssertionError("it was whole")
    except (EOFError, ConnectionResetError):
        pass
    eq(d.access(2)[1]["ended_why"], "total_timeout")
    eq(fetch(timed(env).port, target="/drip").body, b"xxxxxx", "off")


def test_timeout_connect(env):
    """A listener whose backlog is full lets nobody in."""
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(0)
    port = s.getsockname()[1]
    fill = []
    for _ in range(4):
        f = socket.socket()
        f.setblocking(False)
        f.connect_ex(("127.0.0.1", port))
        fill.append(f)
    c = env.config(port)
    c["upstreams"]["app"]["timeouts"] = {"connect": "300ms"}
    d = env.start(c)
    began = time.monotonic()
    eq(fetch(d.port).status, 504)
    took(began, 0.29)
    eq(d.access()[0]["ended_why"], "connect_timeout")
    eq(d.metric("upstream_errors_total", upstream="app", reason="timeout"), 1)
    for f in fill + [s]:
        f.close()


def test_timeout_response(env):
    """To the head; the body has its own."""
    d = timed(env, upstream={"response": "400ms"})
    eq(fetch(d.port, target="/drip").body, b"xxxxxx")
    began = time.monotonic()
    eq(fetch(d.port, target="/never").status, 504)
    took(began, 0.39)
    eq(d.access(2)[1]["ended_why"], "upstream_timeout")


def test_timeout_upstream_idle(env):
    """Between two reads of the response: a slow one that comes is not cut."""
    d = timed(env, upstream={"idle": "400ms"})
    eq(fetch(d.port, target="/drip").body, b"xxxxxx")
    began = time.monotonic()
    c = Raw(d.port)
    c.request(target="/stall")
    try:
        c.response()
        raise AssertionError("it was whole")
    except (EOFError, ConnectionResetError):
        pass
    took(began, 0.39)
    eq(d.access(2)[1]["ended_why"], "upstream_timeout")


# ---- limits: what just fits, and one more -----------------------------------------

def limited(env, **limits):
    o = env.origin()
    return env.proxy(o.port, listener={"limits": limits})


def head_of(n):
    """A request head of n bytes."""
    start = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"a" * (n - len(start) - 4) + b"\r\n\r\n"


def test_limit_header_bytes(env):
    d = limited(env, header_bytes="2KiB", target_bytes="1KiB")
    for n, status in ((2048, 200), (2049, 431)):
        c = Raw(d.port)
        c.send(head_of(n))
        eq(c.response().status, status, "%d bytes" % n)
    eq(d.access(2)[1]["ended_by"], "limit")
    eq(d.metric("bad_requests_total", reason="too_large"), 1)


def test_limit_headers(env):
    d = limited(env, headers=10)
    for n, status in ((10, 200), (11, 431)):
        eq(fetch(d.port, headers=[("X%d" % i, "1") for i in range(n - 1)]
                 ).status, status, "%d fields" % n)


def test_limit_target_bytes(env):
    d = limited(env, target_bytes=100)
    for n, status in ((100, 200), (101, 414)):
        eq(fetch(d.port, target="/" + "a" * (n - 1)).status, status, n)


def test_limit_body(env):
    d = limited(env, body=1000)
    for n, status in ((1000, 200), (1001, 413)):
        eq(fetch(d.port, "POST", "/", body=b"a" * n).status, status)
        c = Raw(d.port)
        c.request("POST", "/", {"Transfer-Encoding": "chunked"},
                  b"%x\r\n%s\r\n0\r\n\r\n" % (n, b"a" * n))
        eq(c.response().status, status, "chunked")


def test_keepalive(env):
    """Idle connections to the upstream: as many as it says, or none."""
    for keep, want in ((0, 5), (1, 1)):
        o = env.origin()
        c = env.config(o.port)
        c["upstreams"]["app"]["keepalive"] = keep
        d = env.start(c)
        for _ in range(5):
            eq(fetch(d.port).status, 200)
        eq(o.connections, want, "keepalive: %d" % keep)
        eq(d.metric("upstream_connections", upstream="app", state="idle"),
           keep)


def test_out_of_descriptors(env):
    """A full table of descriptors: quiet connections make way, no request
    fails."""
    o = env.origin()
    c = env.config(o.port)
    c["upstreams"]["app"]["keepalive"] = 0
    d = env.start(c)
    first = fetch(d.port).status
    used = len(os.listdir("/proc/%d/fd" % d.proc.pid))
    resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE,
                     (used + 20, used + 20))
    kept = []
    for _ in range(12):
        k = Raw(d.port)
        k.request()
        kept.append((k, k.response().status))
    eq({status for _, status in kept} | {first}, {200})
    for _ in range(12):             # more than there is room for
        kept.append((Raw(d.port), 0))
    late = [Raw(d.port) for _ in range(4)]
    for k in late:
        k.request(headers={"Connection": "close"})
        eq(k.response().status, 200)
        k.close()
    kept[0][0].closed()
    check("event=accept" in d.own_log() or " accept " in d.own_log())


def test_out_of_descriptors_for_the_upstream(env):
    """No descriptor is left for the connection to the upstream: a client that
    asks for nothing makes way."""
    o = env.origin()
    c = env.config(o.port)
    c["upstreams"]["app"]["keepalive"] = 0
    d = env.start(c)
    clients = []
    for _ in range(6):
        k = Raw(d.port)
        k.request()
        eq(k.response().status, 200)
        clients.append(k)

    def gave_way():
        """One more request, with the table as full as it is."""
        used = {int(n) for n in os.listdir("/proc/%d/fd" % d.proc.pid)}
        free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(d.proc.pid, resource.RLIMIT_NOFILE, (free, free))
        clients[-1].request()
        eq(clients[-1].response().status, 200)
        clients[0].sock.setblocking(False)
        try:
            return clients[0].sock.recv(1) == b""
        except BlockingIOError:
            return False

    # Not at once: the last one's connection to the upstream may just close.
    wait_for(gave_way, "a quiet client gave way")


def test_connections_per_client(env):
    """One address may have so many, over all workers, parked ones too; a
    trusted proxy and a Unix socket may have more."""
    o, path = env.origin(), env.path("in.sock")
    c = env.config(o.port, listener={"max_connections_per_client": 4},
                   workers=2)
    c["listeners"].append({"name": "local", "address": "unix:" + path,
                           "max_connections_per_client": 1})
    port = env.port()
    c["listeners"].append({
        "name": "behind", "address": "127.0.0.1:%d" % port,
        "max_connections_per_client": 1, "trusted_proxies": ["127.0.0.1"]})
    d = env.start(c)

    def alive(make):
        try:
            k = make()
            k.request()
            return k if k.response().status == 200 else None
        except (EOFError, OSError):
            return None

    def none_left():
        return d.metric("connections", listener="main") == 0
    wait_for(none_left, "the harness's own are gone")
    for _ in range(2):
        kept = [alive(lambda: Raw(d.port)) for _ in range(4)]
        check(all(kept), "four")
        check(not alive(lambda: Raw(d.port)), "a fifth")
        time.sleep(1.6)             # they are parked
        check(not alive(lambda: Raw(d.port)), "a fifth beside quiet ones")
        other = socket.socket()     # another address
        other.settimeout(15)
        other.bind(("127.0.0.2", 0))
        other.connect(("127.0.0.1", d.port))
        other.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        check(other.recv(100).startswith(b"HTTP/1.1 200"))
        other.close()
        kept.pop().close()
        wait_for(lambda: d.metric("connections", listener="main") == 3,
                 "one has gone")
        kept.append(alive(lambda: Raw(d.port)))
        check(kept[-1], "room again")
        for k in kept:
            k.close()
        wait_for(none_left, "all are gone")
    check(d.metric("connections_refused_total", listener="main") >= 4)
    for make in (lambda: UnixRaw(path), lambda: Raw(port)):
        check(all([alive(make) for _ in range(3)]))
