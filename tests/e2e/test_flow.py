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


def test_skip_keeps_order(env):
    """Left out for its size while a chunk is in question: that chunk still
    goes first."""
    handler, kept = holding(["request_chunk"])
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "30s"}}, {
        "agents": [{"name": "waf", "request_body": "hold", "max_body": 1000,
                    "on_too_large": "skip"}]})
    c = post_chunked(d)
    first, second = b"a" * 700, b"b" * 700
    c.send(chunk(first))
    wait_for(lambda: kept, "the first chunk is asked")
    c.send(chunk(second) + b"0\r\n\r\n")
    d.wait_metric(1, "agent_bypass_total", agent="waf", cause="too_large")
    kept[0].reply(allow())
    eq(c.response().body, b"POST /\n" + first + second)
    check_laws(d)


def test_skip_verdict_counts(env):
    """The same, and that chunk is blocked: nothing has gone on."""
    handler, kept = holding(["request_chunk"])
    env.agent("waf", handler)
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"timeout": "30s"}}, {
        "agents": [{"name": "waf", "request_body": "hold", "max_body": 1000,
                    "on_too_large": "skip"}]})
    c = post_chunked(d)
    c.send(chunk(b"a" * 700))
    wait_for(lambda: kept, "the first chunk is asked")
    c.send(chunk(b"b" * 700))
    d.wait_metric(1, "agent_bypass_total", agent="waf", cause="too_large")
    kept[0].reply(block(403, "no\n"))
    eq(c.response().status, 403)
    eq(o.seen, [])


def test_left_out_and_mutated(env):
    """The agent fails open over the request while it has a chunk of the
    response, which it then makes longer."""
    handler, kept = holding(["request_chunk", "response_chunk"])
    a = env.agent("waf", handler)

    go_on, rest = threading.Event(), threading.Event()

    def serve(x):
        x.chunk()
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n")
        go_on.wait(10)
        x.send("abc")
        rest.wait(10)
        x.send("def")
        x.fill()
    d = env.proxy(env.origin(serve).port, {"waf": {
        "timeout": "30s", "may_mutate": "both", "on_failure": "allow"}}, {
        "agents": [{"name": "waf", "request_body": "stream",
                    "response_body": "stream"}]})
    c = post_chunked(d)
    c.send(chunk(b"one"))
    wait_for(lambda: len(kept) == 1, "the request's chunk")
    kept[0].reply(allow())
    a.wait("response_head")
    c.send(chunk(b"two"))
    wait_for(lambda: len(kept) == 2, "the request's second chunk")
    go_on.set()
    wait_for(lambda: len(kept) == 3, "the response's chunk")
    bad = mutation(kept[1], b"x")
    bad["request_body_mutation"]["chunk_index"] = 7
    kept[1].reply(allow(**bad))
    d.wait_metric(1, "agent_bypass_total", agent="waf", cause="protocol")
    kept[2].reply(allow(**mutation(kept[2], b"much longer than before")))
    eq(c.head().get("transfer-encoding"), "chunked")
    eq(c.chunk(), b"much longer than before")
    rest.set()
    eq(c.chunk(), b"def")
    d.alive()


def test_left_out_bounds_the_next(env):
    """The first agent is left out, the second is slow: the client waits."""
    def failing(ev):
        if ev.kind == "request_chunk":
            bad = mutation(ev, b"x")
            bad["request_body_mutation"]["chunk_index"] = 7
            return allow(**bad)
        return allow()
    handler, kept = holding(["request_chunk"])
    env.agent("one", failing)
    env.agent("two", handler)
    d = env.proxy(env.origin().port, {
        "one": {"timeout": "30s", "on_failure": "allow"},
        "two": {"timeout": "60s"}}, {
        "agents": [{"name": "one", "request_body": "stream"},
                   {"name": "two", "request_body": "stream"}]})
    c = post_chunked(d)
    c.send(chunk(b"first"))
    wait_for(lambda: kept, "the second agent has a chunk")
    c.sock.settimeout(2)
    sent = 0
    try:
        while sent < 64 << 20:
            c.send(chunk(b"x" * 65536))
            sent += 65536
    except OSError:
        pass
    check(sent < 32 << 20, "took %d bytes while one chunk is in question"
          % sent)
    check(d.metric("held_bytes") < 1 << 20, "held %d"
          % d.metric("held_bytes"))
    c.close(hard=True)


def test_refused_once(env):
    """Too large behind an agent that was left out: one clean answer."""
    kept = []

    def two(ev):
        if ev.kind == "request_chunk":
            bad = mutation(ev, b"x")
            bad["request_body_mutation"]["chunk_index"] = 7
            return allow(**bad)
        return allow()

    def one(ev):
        if ev.kind == "request_chunk":
            kept.append(ev)
            return None
        return allow()
    env.agent("one", one)
    env.agent("two", two)
    o = env.origin()
    d = env.proxy(o.port, {"one": {"timeout": "30s"},
                           "two": {"timeout": "30s",
                                   "on_failure": "allow"}}, {
        "agents": [{"name": "one", "request_body": "hold", "max_body": 1000},
                   {"name": "two", "request_body": "hold",
                    "max_body": 10000}]})
    c = post_chunked(d)
    c.send(chunk(b"a" * 100))
    wait_for(lambda: len(kept) == 1, "the first chunk")
    kept[0].reply(allow())
    d.wait_metric(1, "agent_bypass_total", agent="two")
    c.send(chunk(b"b" * 700))
    wait_for(lambda: len(kept) == 2, "the second chunk")
    # Both at once: the answer, and what makes it too large.
    c.send(chunk(b"c" * 700))
    r = c.response()
    eq(r.status, 413)
    d.wait_idle()
    eq(d.metric("agent_failures_total", agent="one", cause="too_large"), 1)
    eq(o.seen, [])
    check_laws(d)


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


def test_held_bytes_before_the_verdict(env):
    """What came before the head's verdict is given back as it was taken."""
    handler, kept = holding(["request_head"])
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "30s"}}, {
        "agents": [{"name": "waf", "request_body": "hold"}]})
    c = Raw(d.port)
    c.request("POST", "/", body=b"x" * 5000)
    wait_for(lambda: kept, "the head")
    wait_for(lambda: d.metric("held_bytes") >= 5000, "the body is here")
    kept[0].reply(allow())
    eq(c.response().status, 200)
    d.wait_idle()
    held = d.admin("/agents").body
    check(b'"held_bytes":0' in held.replace(b" ", b""), held)


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


def test_early_response_is_not_starved(env):
    """An endless upload with a chunk in question at almost any time: the
    early answer goes between two of them."""
    def handler(ev):
        if ev.kind == "request_chunk":
            time.sleep(0.02)
        return allow()
    env.agent("waf", handler)

    def serve(x):
        x.chunk()
        x.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly")
        try:
            while x.chunk():
                pass
        except (EOFError, OSError):
            pass
        return False
    d = env.proxy(env.origin(serve).port, {"waf": {"timeout": "30s"}}, {
        "agents": [{"name": "waf", "request_body": "stream"}]})
    c = post_chunked(d)
    done = threading.Event()

    def upload():
        try:
            while not done.is_set():
                c.send(chunk(b"x" * 65536))
        except OSError:
            pass
    t = threading.Thread(target=upload, daemon=True)
    t.start()
    c.sock.settimeout(10)
    try:
        eq(c.response().body, b"early")
    finally:
        done.set()


def test_laws_of_too_large(env):
    env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {}}, {
        "agents": [{"name": "waf", "request_body": "hold",
                    "max_body": 100}]})
    eq(fetch(d.port, "POST", "/", body=b"x" * 200).status, 413)
    d.wait_idle()
    check_laws(d)


def test_audit_of_chunks_costs_no_memory(env):
    d, grown = chatty(env, {"audit": {"tags": ["t" * 100, "u" * 100],
                                      "rule_ids": ["r" * 100]}})
    check("asan" in env.build or grown < 3 << 10, "grew by %d KiB" % grown)
    eq(d.access()[0]["agents"][1]["rules"], ["r" * 100])


def test_ops_of_chunks_cost_no_memory(env):
    d, grown = chatty(env, {"response_headers": [set_header("X-A", "v" * 100)]})
    check("asan" in env.build or grown < 3 << 10, "grew by %d KiB" % grown)


def test_failed_chunk_in_the_log(env):
    handler, kept = holding(["request_chunk"])
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "200ms"}}, {
        "agents": [{"name": "waf", "request_body": "stream"}]})
    eq(fetch(d.port, "POST", "/", body=b"x").status, 504)
    line = d.access()[0]["agents"][1]
    eq((line["event"], line["verdict"], line["cause"]),
       ("request_chunk", "fail_deny", "timeout"))
    check(line["us"] >= 200000, "us is %s" % line["us"])


def test_total_size_stays(env):
    a = env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {
        "may_mutate": "request", "chunk_size": 1024}}, {
        "agents": [{"name": "waf", "request_body": "stream"}]})
    eq(fetch(d.port, "POST", "/", body=b"x" * 4500).status, 200)
    eq({e.payload["total_size"] for e in a.of("request_chunk")}, {4500})


def test_out_at_the_response_head(env):
    """Failed open at the response head: it gets no more of the request."""
    n = []

    def handler(ev):
        n.append(ev.kind)
        if ev.kind == "response_head":
            return b"\0\0\0\x05\x20nope"
        return allow()
    env.agent("waf", handler)
    more = threading.Event()

    def serve(x):
        x.chunk()
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        x.send(b"1\r\na\r\n")
        while x.chunk():
            pass
        x.trailers()
        x.send("0\r\n\r\n")
        return False
    d = env.proxy(env.origin(serve).port, {"waf": {"on_failure": "allow"}}, {
        "agents": [{"name": "waf", "request_body": "stream",
                    "response_head": True}]})
    c = post_chunked(d)
    c.send(chunk(b"one"))
    eq(c.head().status, 200)
    c.send(chunk(b"two") + b"0\r\n\r\n")
    eq(c.chunk(), b"a")
    eq(c.chunk(), b"")
    d.wait_idle()
    eq(n.count("request_chunk"), 1)
    check_laws(d)


def test_small_pieces_pin_little(env):
    """A held body costs about what it weighs, however it comes."""
    handler, kept = holding(["request_chunk"])
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "60s"}}, {
        "agents": [{"name": "waf", "request_body": "buffer",
                    "max_body": "8MiB"}]})
    start = d.rss_kib()
    clients = [post_chunked(d) for _ in range(50)]
    for i in range(20):
        for c in clients:
            c.send(chunk(b"x" * 300))
        time.sleep(0.12)
    want = 50 * 20 * 300
    wait_for(lambda: d.metric("held_bytes") >= want, "all is here")
    grown = d.rss_kib() - start
    print("held %d KiB costs %d KiB" % (want >> 10, grown))
    check(grown < 20 << 10, "held %d KiB costs %d KiB" % (want >> 10, grown))


def test_edits_on_the_routes_own_answer(env):
    """What agents ask for at request time is on a fixed response too."""
    env.agent("waf", lambda ev: allow(
        response_headers=[set_header("X-Seen", "yes"),
                          set_header("Set-Cookie", "a=1")]
        if ev.kind == "request_head" else []))
    o = env.origin()
    config = env.config(o.port, {"waf": {}})
    config["routes"] = [{"name": "fixed", "agents": ["waf"],
                         "respond": {"status": 200, "body": "hello\n"}}]
    d = env.start(config)
    r = fetch(d.port)
    eq((r.status, r.body, r.get("x-seen"), r.get("set-cookie")),
       (200, b"hello\n", "yes", "a=1"))


def test_chunked_body_of_length_0(env):
    """It is a body: one event, the last; what is made of it is forwarded. A
    Content-Length of 0 is none."""
    def handler(ev):
        if ev.kind == "request_chunk":
            return allow(**mutation(ev, b"added"))
        return allow()
    agents = {}
    routes = []
    for mode in ("stream", "hold", "buffer"):
        agents[mode] = env.agent(mode, handler)
        routes.append({"match": {"path": "/" + mode}, "upstream": "app",
                       "agents": [{"name": mode, "request_body": mode}]})
    config = env.config(env.origin().port, {
        mode: {"may_mutate": "request"} for mode in agents})
    config["routes"] = routes
    d = env.start(config)
    for mode, a in agents.items():
        c = Raw(d.port)
        c.request("POST", "/" + mode, CHUNKED, b"0\r\n\r\n")
        eq(c.response().body, b"POST /%s\nadded" % mode.encode())
        events = a.of("request_chunk")
        eq([(e.data, e.last) for e in events], [(b"", True)])
        c.request("POST", "/" + mode, {"Content-Length": "0",
                                       "Expect": "100-continue"})
        eq(c.head().status, 200)
        eq(len(a.of("request_chunk")), 1)
    check_laws(d)


def test_needs_more_over_a_body(env):
    """What is said beside needs_more is not acted on; the last word is."""
    def handler(ev):
        if ev.kind == "request_head":
            return block(403, "later", needs_more=True)
        if ev.data and b"bad" in ev.data:
            return block(401, "no", needs_more=True)
        return allow(needs_more=True)
    env.agent("waf", handler)
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"chunk_size": 1024}}, {
        "agents": [{"name": "waf", "request_body": "stream",
                    "max_body": "10KiB"}]})
    eq(fetch(d.port).status, 403)
    eq(fetch(d.port, "POST", "/", body=b"x" * 5000 + b"bad").status, 401)
    eq(fetch(d.port, "POST", "/", body=b"x" * 10241).status, 413)
    eq(o.seen, [])
    eq(fetch(d.port, "POST", "/", body=b"bad" + b"x" * 5000).status, 200)
    c = post_chunked(d)
    c.send("0\r\n\r\n")
    eq(c.response().status, 200)
    d.wait_idle()
    check_laws(d)


def test_link_lost_in_hold(env):
    n = []

    def handler(ev):
        if ev.kind == "request_chunk":
            n.append(ev)
            if len(n) == 2:
                ev.link.sock.shutdown(2)
                return None
        return allow()
    env.agent("waf", handler)
    body = bytes(range(256)) * 20
    for policy, status in (("deny", 503), ("allow", 200)):
        del n[:]
        d = env.proxy(env.origin().port, {"waf": {
            "chunk_size": 1024, "on_failure": policy}}, {
            "agents": [{"name": "waf", "request_body": "hold"}]})
        r = fetch(d.port, "POST", "/", body=body)
        eq(r.status, status)
        check(status != 200 or r.body == b"POST /\n" + body, "the body")
        d.wait_idle()
        check_laws(d)


def test_budget_of_held_bytes(env):
    """Spent: who comes last is refused, who was first goes on."""
    env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {}}, {
        "agents": [{"name": "waf", "request_body": "hold",
                    "max_body": "3MiB"}]}, memory={"held_bytes": "4MiB"})
    part = chunk(b"x" * 65536)
    clients = [post_chunked(d) for _ in range(2)]
    for i, c in enumerate(clients):
        try:
            for _ in range(40):
                c.send(part)
        except OSError:
            check(i == 1, "the first one is refused")
        if i == 0:
            wait_for(lambda: d.metric("held_bytes") >= 40 << 16, "held")
    eq(clients[1].response().status, 503)
    clients[0].send("0\r\n\r\n")
    eq(len(clients[0].response().body), 7 + (40 << 16))
    d.wait_idle()
    check_laws(d)
    check(b'"held_bytes":0' in d.admin("/agents").body.replace(b" ", b""))
