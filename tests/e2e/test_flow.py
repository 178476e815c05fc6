"""Where several things happen to one body at a time: agents that are left out
with a chunk in question, answers that come early, ends that come late."""
import threading
import time

from agent import allow, block, mutation, set_header
from lib import Raw, check, eq, fetch, wait_for

CHUNKED = [("Transfer-Encoding", "chunked")]


def chunk(data):
    return b"%x\r\n%s\r\n" % (len(data), data)


def post_chunked(d):
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    return c


def holding(kinds):
    """A handler that keeps events of these kinds for the test to answer."""
    kept = []

    def handler(ev):
        if ev.kind in kinds:
            kept.append(ev)
            return None
        return allow()
    return handler, kept


def check_laws(d):
    """interface.md, "Laws that tests hold"."""
    m = d.metrics()
    kinds = ("request_head", "request_chunk", "response_head",
             "response_chunk")
    events = sum(m.get("agent_events_total", event=k) for k in kinds)
    decisions = sum(m.get("agent_decisions_total", event=k) for k in kinds)
    failures = m.get("agent_failures_total")
    eq(events, decisions + failures - m.get("agent_unsent_total")
       + m.get("agent_abandoned_total") + m.get("agent_in_flight"), "events")
    eq(failures, m.get("agent_bypass_total") + m.get("agent_denied_total"),
       "failures")


def push(c):
    try:
        for _ in range(1500):
            c.send(b"x" * 65536)
    except OSError:
        pass


def chatty(env, more, n=10000):
    """Peak memory of an upload in many chunks, each answered with `more`."""
    a = env.agent("waf", lambda ev: allow(
        **(more if ev.kind == "request_chunk" else {})), "msgpack")
    a.keep = False

    def serve(x):
        x.read_body()
        x.answer(200)
    d = env.proxy(env.origin(serve).port, {"waf": {
        "timeout": "30s", "chunk_size": 1024}}, {
        "agents": [{"name": "waf", "request_body": "stream"}]})
    c = Raw(d.port, 120)
    size = n * 1024
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
    start = None
    for at in range(0, size, 1 << 20):
        c.send(b"x" * min(1 << 20, size - at))
        if at == 4 << 20:
            start = d.rss_kib("VmHWM")
    eq(c.response().status, 200)
    return d, d.rss_kib("VmHWM") - start


def test_upgrade_before_the_request_ends(env):
    """A 101 while the request still comes is no upgrade: 502."""
    env.agent("waf")

    def serve(x):
        x.chunk()
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
               "Upgrade: websocket\r\n\r\nhello")
        try:
            while True:
                x.fill()
        except (EOFError, OSError):
            pass
        return False
    d = env.proxy(env.origin(serve).port, {"waf": {"timeout": "2s"}}, {
        "upgrade": ["websocket"],
        "agents": [{"name": "waf", "request_body": "stream"}]})
    for i in range(20):
        c = Raw(d.port)
        c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
               "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n"
               + chunk(b"one").decode())
        time.sleep(0.0003 * i)      # inside the chunk's 5 ms, or not
        c.send(chunk(b"two"))
        eq(c.head().status, 502)
        c.close()
        d.alive()
    d.wait_idle()
    check_laws(d)


def test_upstream_never_reads(env):
    """An upstream that neither reads nor answers: 504, in time."""
    stop = threading.Event()

    def serve(x):
        stop.wait(30)
        return False
    o = env.origin(serve)
    config = env.config(o.port)
    config["upstreams"]["app"]["timeouts"] = {"idle": "1s", "response": "1s"}
    d = env.start(config)
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    threading.Thread(target=lambda: push(c), daemon=True).start()
    try:
        eq(c.response().status, 504)
    finally:
        stop.set()


def test_upgrade_blocked_at_the_response(env):
    def handler(ev):
        return block(403, "no tunnels\n") if ev.kind == "response_head" \
            else allow()
    env.agent("waf", handler)

    def serve(x):
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
               "Upgrade: websocket\r\n\r\n")
        try:
            x.fill()
        except OSError:
            pass
        return False
    d = env.proxy(env.origin(serve).port, {"waf": {}}, {
        "agents": [{"name": "waf", "response_head": True}]})
    c = Raw(d.port)
    for _ in range(2):
        c.request("GET", "/", {"Connection": "upgrade",
                               "Upgrade": "websocket"})
        r = c.response()
        eq((r.status, r.body), (403, b"no tunnels\n"))


def test_owned_headers_in_trailers(env):
    """A client can't say in a trailer what it can't say in a header."""
    env.agent("auth")
    o = env.origin()
    d = env.proxy(o.port, {"auth": {"owns_headers": ["X-User"]}})
    c = post_chunked(d)
    c.send(chunk(b"one") + b"0\r\nX-User: root\r\nx_user: root\r\n"
           b"X-Sum: 1\r\n\r\n")
    eq(c.response().status, 200)
    eq([n.lower() for n, _ in o.seen[0].request_trailers], ["x-sum"])


def test_audit_of_chunks_costs_no_memory(env):
    d, grown = chatty(env, {"audit": {"tags": ["t" * 100, "u" * 100],
                                      "rule_ids": ["r" * 100]}})
    check("asan" in env.build or grown < 3 << 10, "grew by %d KiB" % grown)
    eq(d.access()[0]["agents"][1]["rules"], ["r" * 100])


def test_ops_of_chunks_cost_no_memory(env):
    d, grown = chatty(env, {"response_headers": [set_header("X-A", "v" * 100)]})
    check("asan" in env.build or grown < 3 << 10, "grew by %d KiB" % grown)
