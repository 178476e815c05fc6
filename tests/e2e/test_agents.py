"""What agents decide, seen from both ends. Each test in both encodings."""
import functools
import json
import os
import struct
import threading

from agent import (add_header, allow, block, mutation, redirect,
                   remove_header, set_header)
from lib import Raw, check, eq, fetch, wait_for


def both_encodings(fn):
    """Runs the test with a JSON and with a MessagePack agent."""
    def run(env, encoding):
        env.encoding = encoding
        fn(env)
    for encoding in ("json", "msgpack"):
        test = functools.partial(run, encoding=encoding)
        test.__module__ = __name__
        globals()["%s_%s" % (fn.__name__, encoding)] = test
    return None


def setup(env, handler, agent=None, route=None, use=None, origin=None, **more):
    """Agent, origin, proxy; use: how the route uses the agent."""
    a = env.agent("waf", handler, env.encoding)
    o = env.origin(origin)
    agent = dict({"timeout": "5s"}, **(agent or {}))
    route = dict({"agents": [dict({"name": "waf"}, **(use or {}))]},
                 **(route or {}))
    return a, o, env.proxy(o.port, {"waf": agent}, route, **more)


@both_encodings
def test_agent_sees_the_request(env):
    a, o, d = setup(env, None)
    fetch(d.port, "GET", "/p/%61?q=1", host="shop.example:81",
          headers=[("Accept", "a"), ("accept", "b"), ("X-L", "caf\xe9"),
                   ("Connection", "X-Hop"), ("X-Hop", "1")])
    ev = a.wait("request_head")
    eq((ev.method, ev.uri), ("GET", "/p/%61?q=1"))
    eq(ev.headers["accept"], ["a", "b"])
    eq(ev.headers["host"], ["shop.example:81"])
    eq(ev.headers["x-l"], ["caf\xe9"])
    eq(ev.headers["x-forwarded-for"], ["127.0.0.1"])
    check("x-hop" not in ev.headers and "connection" not in ev.headers)
    m = ev.meta
    eq((m["client_ip"], m["server_name"], m["protocol"], m["route_id"],
        m["upstream_id"]),
       ("127.0.0.1", "shop.example", "HTTP/1.1", "all", "app"))
    check(len(m["correlation_id"]) == 32 and m["client_port"] > 0)
    done = a.wait("complete")
    eq((done.id, done.payload["status"]), (ev.id, 200))
    # What is forwarded is what was judged.
    sent = {}
    for n, v in o.seen[0].headers:
        sent.setdefault(n.lower(), []).append(v)
    eq(sent, ev.headers)
    line = d.access()[0]
    eq((line["correlation_id"], line["agents"][0]["verdict"]),
       (ev.id, "allow"))
    eq(line["request_id"], ev.headers["x-request-id"][0])


@both_encodings
def test_block(env):
    a, o, d = setup(env, lambda ev: block(
        429, "slow down\n", {"Retry-After": "30", "Content-Type": "text/x"},
        response_headers=[set_header("X-Why", "rate")],
        audit={"tags": ["t1"], "rule_ids": ["r1"], "reason_codes": ["c1"]}))
    r = fetch(d.port, "POST", "/", body=b"not read")
    eq((r.status, r.body, r.get("retry-after"), r.get("x-why"),
        r.get("content-type")),
       (429, b"slow down\n", "30", "rate", "text/x"))
    eq(o.seen, [], "the upstream")
    line = d.access()[0]
    eq((line["decided_by"], line["status"], line["ended_by"]),
       ("waf", 429, "agent"))
    ag = line["agents"][0]
    eq((ag["verdict"], ag["event"], ag["status"], ag["tags"], ag["rules"],
        ag["reasons"]),
       ("block", "request_head", 429, ["t1"], ["r1"], ["c1"]))
    eq(d.metric("agent_decisions_total", agent="waf", event="request_head",
                decision="block"), 1)


@both_encodings
def test_block_keeps_connection(env):
    def handler(ev):
        return block(403) if ev.uri == "/no" else allow()
    a, o, d = setup(env, handler)
    c = Raw(d.port)
    for target, status in (("/no", 403), ("/yes", 200), ("/no", 403)) * 5:
        c.request(target=target)
        eq(c.response().status, status)


@both_encodings
def test_block_status(env):
    def handler(ev):
        return block(int(ev.uri[1:]), "body")
    a, o, d = setup(env, handler)
    for status, want in ((200, 200), (204, 204), (302, 302), (404, 404),
                         (599, 599), (100, 502), (199, 502), (600, 502),
                         (101, 502)):
        r = fetch(d.port, target="/%d" % status)
        eq(r.status, want)
        check(want == 204 or r.status != status or r.body == b"body")
    eq(o.seen, [])


@both_encodings
def test_redirect_and_challenge(env):
    def handler(ev):
        if ev.uri == "/c":
            return {"decision": {"challenge": {
                "challenge_type": "captcha", "params": {"site": "secret"}}}}
        return redirect("https://login.example/?a=b", 303)
    a, o, d = setup(env, handler)
    r = fetch(d.port)
    eq((r.status, r.get("location")), (303, "https://login.example/?a=b"))
    r = fetch(d.port, target="/c")
    eq(r.status, 403)
    check(b"captcha" in r.body, r.body)
    eq(o.seen, [])


@both_encodings
def test_header_edits(env):
    def handler(ev):
        return allow(
            request_headers=[set_header("X-User", "bob"),
                             add_header("Accept", "two"),
                             remove_header("Cookie"),
                             set_header("Content-Length", "9"),
                             set_header("Transfer-Encoding", "chunked")],
            response_headers=[add_header("Set-Cookie", "a=1"),
                              remove_header("X-Powered-By")])

    def serve(x):
        x.read_body()
        x.answer(200, b"ok", [("X-Powered-By", "php"), ("Set-Cookie", "b=2")])
    a, o, d = setup(env, handler, origin=serve)
    r = fetch(d.port, headers={"X-User": "eve", "Accept": "one",
                               "Cookie": "c"})
    x = o.seen[0]
    eq((x.all("x-user"), x.all("accept"), x.get("cookie")),
       (["bob"], ["one", "two"], None))
    eq((x.get("content-length"), x.get("transfer-encoding")), (None, None))
    eq((r.all("set-cookie"), r.get("x-powered-by"), r.body),
       (["b=2", "a=1"], None, b"ok"))
    check(d.metric("agent_ops_dropped_total", agent="waf") >= 2)


@both_encodings
def test_bad_edit_is_refused(env):
    """An op that could split a message: agent error, nothing applied."""
    bad = [set_header("X", "a\r\nY: b"), set_header("", "x"),
           set_header("X y", "x"), set_header("X", "a\0"),
           set_header("X", "a\nb")]

    def handler(ev):
        return allow(request_headers=[bad[int(ev.uri[1:])]])
    a, o, d = setup(env, handler)
    for i in range(len(bad)):
        eq(fetch(d.port, target="/%d" % i).status, 502, repr(bad[i]))
    eq(o.seen, [])
    eq(d.metric("agent_failures_total", agent="waf", cause="protocol"),
       len(bad))


@both_encodings
def test_response_head(env):
    def handler(ev):
        if ev.kind != "response_head":
            return allow()
        if ev.payload["status"] == 404:
            return block(503, "hidden\n")
        return allow(response_headers=[set_header("X-Seen", "yes")])

    def serve(x):
        x.answer(404 if x.target == "/404" else 200, b"secret")
    a, o, d = setup(env, handler, use={"response_head": True}, origin=serve)
    r = fetch(d.port)
    eq((r.status, r.body, r.get("x-seen")), (200, b"secret", "yes"))
    r = fetch(d.port, target="/404")
    eq((r.status, r.body), (503, b"hidden\n"))


@both_encodings
def test_hold_upload_blocked(env):
    """Blocked at byte N in hold: the upstream saw nothing of it."""
    def handler(ev):
        if ev.kind == "request_chunk" and b"EVIL" in ev.data:
            return block(403, "virus\n")
        return allow()
    a, o, d = setup(env, handler, {"chunk_size": "16KiB"},
                    use={"request_body": "hold", "max_body": "4MiB"})
    body = b"a" * 600000 + b"EVIL" + b"b" * 100000
    r = fetch(d.port, "POST", "/up", body=body)
    eq((r.status, r.body), (403, b"virus\n"))
    eq((o.seen, o.connections), ([], 0), "the upstream")
    body = body.replace(b"EVIL", b"GOOD")
    r = fetch(d.port, "POST", "/up", body=body)
    eq((r.status, r.body), (200, b"POST /up\n" + body))
    # What is left is at most the worker's lease.
    wait_for(lambda: d.metric("held_bytes") <= 1 << 20, "held bytes")
    # Nothing for the agent, what came with the head included.
    wait_for(lambda: json.loads(d.admin("/agents").body)["agents"][0]
             ["held_bytes"] == 0, "bytes held for the agent")


@both_encodings
def test_buffer(env):
    a, o, d = setup(env, None, use={"request_body": "buffer",
                                    "max_body": "1MiB"})
    body = os.urandom(200000)
    eq(fetch(d.port, "POST", "/b", body=body).body, b"POST /b\n" + body)
    chunks = a.of("request_chunk")
    eq([(c.data == body, c.last) for c in chunks], [(True, True)])


@both_encodings
def test_too_large(env):
    a, o, d = setup(env, None, use={"request_body": "hold",
                                    "max_body": 1000})
    eq(fetch(d.port, "POST", "/", body=b"x" * 1001).status, 413)
    c = Raw(d.port)
    c.request("POST", "/", {"Transfer-Encoding": "chunked"},
              b"%x\r\n%s\r\n0\r\n\r\n" % (2000, b"x" * 2000))
    eq(c.response().status, 413)
    eq(o.seen, [])
    eq(d.metric("agent_failures_total", agent="waf", cause="too_large"), 2)


@both_encodings
def test_too_large_skip(env):
    a, o, d = setup(env, None, use={"request_body": "hold", "max_body": 1000,
                                    "on_too_large": "skip"})
    body = b"x" * 5000
    eq(fetch(d.port, "POST", "/", body=body).body, b"POST /\n" + body)
    eq(d.metric("agent_bypass_total", agent="waf", cause="too_large"), 1)


@both_encodings
def test_mutation_request(env):
    """Replaced, dropped and passed chunks; framing is the proxy's."""
    def handler(ev):
        if ev.kind != "request_chunk":
            return allow()
        return allow(**mutation(ev, ev.data.replace(b"cat", b"elephant")))
    a, o, d = setup(env, handler, {"may_mutate": "request"},
                    use={"request_body": "stream"})
    eq(fetch(d.port, "POST", "/", body=b"a cat").body,
       b"POST /\na elephant")
    body = b"x" * 70000 + b"cat" + b"y" * 70000
    eq(fetch(d.port, "POST", "/", body=body).body,
       b"POST /\n" + body.replace(b"cat", b"elephant"))
    eq(o.seen[1].get("transfer-encoding"), "chunked")


@both_encodings
def test_mutation_hold_both(env):
    def handler(ev):
        if ev.kind.endswith("chunk"):
            return allow(**mutation(ev, ev.data.upper() + b"!"))
        return allow()

    def serve(x):
        x.answer(200, b"got " + x.read_body())
    a, o, d = setup(env, handler, {"may_mutate": "both"},
                    use={"request_body": "hold", "response_body": "hold"},
                    origin=serve)
    c = Raw(d.port)
    for _ in range(3):
        c.request("POST", "/", body=b"abc")
        r = c.response()
        eq(r.body, b"GOT ABC!!")
        eq(r.get("content-length"), "9")
    eq(o.seen[0].get("content-length"), "4")


@both_encodings
def test_mutation_drop(env):
    def handler(ev):
        if ev.kind.endswith("chunk"):
            return allow(**mutation(ev, b""))
        return allow()
    a, o, d = setup(env, handler, {"may_mutate": "both"},
                    use={"request_body": "stream",
                         "response_body": "stream"})
    r = fetch(d.port, "POST", "/", body=b"abc")
    eq((r.status, r.body, o.seen[0].body), (200, b"", b""))


@both_encodings
def test_mutation_not_allowed(env):
    """may_mutate: none; a mutation would break the length."""
    def handler(ev):
        if ev.kind == "request_chunk":
            return allow(**mutation(ev, b"longer than before"))
        return allow()
    a, o, d = setup(env, handler, use={"request_body": "hold"})
    eq(fetch(d.port, "POST", "/", body=b"abc").status, 502)
    eq(o.seen, [])


@both_encodings
def test_block_response_chunk(env):
    """Late in a response: cut off so that the client can tell."""
    def handler(ev):
        if ev.kind == "response_chunk" and b"EVIL" in ev.data:
            return block(403)
        return allow()

    def serve(x):
        x.answer(200, b"a" * 300000 + b"EVIL", chunked=x.target == "/c")
    a, o, d = setup(env, handler, use={"response_body": "stream"},
                    origin=serve)
    for target in ("/c", "/l"):
        try:
            r = fetch(d.port, target=target)
        except (EOFError, ConnectionResetError):
            continue
        raise AssertionError("as if complete: %d bytes" % len(r.body))


@both_encodings
def test_hold_response_blocked(env):
    def handler(ev):
        if ev.kind == "response_chunk" and b"EVIL" in ev.data:
            return block(502, "kept back\n")
        return allow()

    def serve(x):
        x.answer(200, b"a" * 300000 + b"EVIL")
    a, o, d = setup(env, handler, use={"response_body": "hold"}, origin=serve)
    r = fetch(d.port)
    eq((r.status, r.body), (502, b"kept back\n"))


@both_encodings
def test_needs_more(env):
    """A head is held until a reply says that no more is needed."""
    def handler(ev):
        if ev.kind == "request_head":
            return allow(needs_more=True)
        if b"bad" in ev.data:
            return block(403, "no\n")
        return allow(needs_more=not ev.last, request_headers=[
            set_header("X-Body", "checked")] if ev.last else [])
    a, o, d = setup(env, handler, {"chunk_size": "4KiB"},
                    use={"request_body": "stream", "max_body": "1MiB"})
    eq(fetch(d.port, "POST", "/", body=b"x" * 50000 + b"bad").status, 403)
    eq(o.seen, [])
    r = fetch(d.port, "POST", "/", body=b"x" * 50000 + b"good")
    eq((r.status, o.seen[0].get("x-body")), (200, "checked"))


@both_encodings
def test_expect_with_body_agent(env):
    """Our own 100 after the head's verdict; Expect is not forwarded."""
    def handler(ev):
        return block(403) if ev.kind == "request_head" \
            and ev.uri == "/no" else allow()
    a, o, d = setup(env, handler, use={"request_body": "stream"})
    head = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n" \
           "Expect: 100-continue\r\n\r\n"
    c = Raw(d.port)
    c.send(head % "/yes")
    eq(c.response(final=False).status, 100)
    c.send("abc")
    eq(c.response().body, b"POST /yes\nabc")
    eq(o.seen[0].get("expect"), None)
    c.send(head % "/no")
    r = c.response(final=False)
    eq((r.status, r.get("connection")), (403, "close"))


@both_encodings
def test_owns_headers(env):
    def handler(ev):
        check("x-user" not in ev.headers)
        return allow(request_headers=[set_header("X-User", "real")])
    a, o, d = setup(env, handler, {"owns_headers": ["X-User"]})
    fetch(d.port, headers={"X-User": "root", "x_user": "root"})
    eq(o.seen[0].all("x-user"), ["real"])
    eq(o.seen[0].get("x_user"), None)


def test_challenge_with_control_character(env):
    """What the protocol lets an agent say is said, not cut off."""
    def handler(ev):
        return {"decision": {"challenge": {"challenge_type": "b", "params": {
            "www-authenticate": "Basic realm=\"a\x01\"", "body": "x",
            "content-type": "a/b\x7f"}}}}
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {}})
    r = fetch(d.port)
    eq((r.status, r.body), (401, b"x"))
    eq(d.access()[0]["ended_by"], "agent")


def test_request_id_is_ours(env):
    """On every response, and the one that the log has."""
    def handler(ev):
        edits = [remove_header("X-Request-Id"), add_header("X-Request-ID", "a")]
        if ev.uri == "/no":
            return block(403, "no", {"x-request-id": "b"},
                         response_headers=edits)
        return allow(request_headers=edits, response_headers=edits)
    env.agent("waf", handler)
    o = env.origin()
    d = env.proxy(o.port, {"waf": {}})
    got = [fetch(d.port, target=t).all("x-request-id") for t in ("/", "/no")]
    eq(got, [[line["request_id"]] for line in d.access(2)])
    eq(o.seen[0].all("x-request-id"), got[0])


def test_owns_headers_of_another(env):
    """Only the owner may set it; anybody may take it away."""
    def set_it(ev):
        edits = [set_header("X-User", "root"), add_header("x_user", "root"),
                 set_header("X-Else", "1")]
        if ev.uri == "/away":
            edits = [remove_header("X-User")]
        return allow(request_headers=edits)
    env.agent("auth", lambda ev: allow(
        request_headers=[set_header("X-User", "real")]))
    env.agent("waf", set_it)
    o = env.origin()
    d = env.proxy(o.port, {"auth": {"owns_headers": ["X-User"]}, "waf": {}})
    eq(fetch(d.port).status, 200)
    eq((o.seen[0].all("x-user"), o.seen[0].get("x_user"),
        o.seen[0].get("x-else")), (["real"], None, "1"))
    eq(d.metric("agent_ops_dropped_total", agent="waf"), 2)
    eq(d.metric("agent_ops_dropped_total", agent="auth"), 0)
    eq(fetch(d.port, target="/away").status, 200)
    eq(o.seen[1].get("x-user"), None)


def two(env, first, second, use1=None, use2=None, **more):
    a = env.agent("one", first, env.encoding)
    b = env.agent("two", second, env.encoding)
    o = env.origin()
    return a, b, o, env.proxy(
        o.port, {"one": dict({"timeout": "5s"}, **more),
                 "two": dict({"timeout": "5s"}, **more)},
        {"agents": [dict({"name": "one"}, **(use1 or {})),
                    dict({"name": "two"}, **(use2 or {}))]})


@both_encodings
def test_first_in_order_wins(env):
    """An earlier block of the second does not win over the first's."""
    held = []

    def first(ev):
        held.append(ev)
    a, b, o, d = two(env, first, lambda ev: block(402, "two"))
    c = Raw(d.port)
    c.request()
    b.wait("request_head")
    wait_for(lambda: held, "the first agent is asked at the same time")
    held[0].reply(block(401, "one"))
    r = c.response()
    eq((r.status, r.body), (401, b"one"))
    c.request()
    wait_for(lambda: len(held) == 2, "asked again")
    held[1].reply(allow())
    eq(c.response().status, 402)
    eq(o.seen, [])


@both_encodings
def test_edits_in_order(env):
    a, b, o, d = two(
        env,
        lambda ev: allow(request_headers=[set_header("X", "1"),
                                          add_header("Y", "1")]),
        lambda ev: allow(request_headers=[set_header("X", "2"),
                                          add_header("Y", "2")]))
    fetch(d.port)
    eq((o.seen[0].all("x"), o.seen[0].all("y")), (["2"], ["1", "2"]))


@both_encodings
def test_chunks_one_after_the_other(env):
    """The second agent sees what the first made of a chunk."""
    def first(ev):
        if ev.kind == "request_chunk":
            return allow(**mutation(ev, b"<" + ev.data + b">"))
        return allow()

    def second(ev):
        if ev.kind == "request_chunk":
            return allow(**mutation(ev, ev.data[::-1]))
        return allow()
    stream = {"request_body": "stream"}
    a, b, o, d = two(env, first, second, stream, stream,
                     may_mutate="request")
    eq(fetch(d.port, "POST", "/", body=b"abc").body, b"POST /\n>cba<")


@both_encodings
def test_timeout_and_late_reply(env):
    held = []

    def handler(ev):
        if ev.uri == "/slow":
            held.append(ev)
            return None
        return allow()
    a, o, d = setup(env, handler, {"timeout": "200ms", "connections": 1})
    eq(fetch(d.port).status, 200)       # its replies are known to carry ids
    eq(fetch(d.port, target="/slow").status, 504)
    a.wait("cancel")
    eq(fetch(d.port, target="/quick").status, 200, "the link is usable")
    held[0].reply(allow())
    d.wait_metric(1, "agent_late_replies_total", agent="waf")
    eq(fetch(d.port, target="/quick").status, 200)
    eq(len(o.seen), 3)
    eq(d.metric("agent_failures_total", agent="waf", cause="timeout"), 1)


@both_encodings
def test_protocol_errors(env):
    """Frames that cannot be read: the policy, and never an allow."""
    def frame(kind, body):
        return struct.pack(">IB", len(body) + 1, kind) + body
    other = {"version": 2, "decision": "allow",
             "audit": {"custom": {"correlation_id": "0" * 32}}}
    bad = [
        frame(0x20, b"{"), frame(0x20, b"null"), frame(0x20, b""),
        frame(0x20, b'{"decision":"maybe"}'), frame(0x99, b"{}"),
        struct.pack(">I", 0), struct.pack(">IB", 1 << 30, 0x20),
        frame(0x20, json.dumps(other).encode()),
        frame(0x20, json.dumps({"decision": "allow", "audit": {"custom": {
            "correlation_id": ""}}}).encode()),
        b"\xff" * 100,
    ]

    def handler(ev):
        if ev.uri == "/ok":
            return allow()
        return bad[int(ev.uri[1:])]
    a, o, d = setup(env, handler, {"timeout": "2s"})
    for i in range(len(bad)):
        r = fetch(d.port, target="/%d" % i)
        check(r.status in (502, 503), "%r: %d" % (bad[i][:40], r.status))
        wait_for(lambda: fetch(d.port, target="/ok").status == 200,
                 "the agent is asked again")
    eq([x for x in o.seen if x.target != "/ok"], [])


@both_encodings
def test_pipelined_links(env):
    """Many exchanges in flight on few links, answered backwards."""
    held, firsts, lock = [], [], threading.Lock()

    def handler(ev):
        with lock:
            (firsts if ev.uri == "/first" else held).append(ev)
    n = 60
    a, o, d = setup(env, handler, {"connections": 2, "max_connections": 2,
                                   "timeout": "10s"})
    d.wait_metric(2, "agent_links", agent="waf", state="up")
    for _ in range(2):      # then both links' replies are known to carry ids
        pair = [Raw(d.port) for _ in range(2)]
        for c in pair:
            c.request(target="/first")
        wait_for(lambda: len(firsts) == 2, "one event on each link")
        while firsts:
            firsts.pop().reply(allow())
        for c in pair:
            eq(c.response().status, 200)
    cs = [Raw(d.port) for _ in range(n)]
    for i, c in enumerate(cs):
        c.request(target="/%d" % i)
    wait_for(lambda: len(held) == n, "all events (%d)" % len(held))
    for ev in reversed(held):
        ev.reply(block(403, "no") if int(ev.uri[1:]) % 2 else allow())
    for i, c in enumerate(cs):
        r = c.response()
        eq((r.status, r.body), (403, b"no") if i % 2 else
           (200, b"GET /%d\n" % i), "exchange %d" % i)
    check(len(a.links) <= 2, "%d links" % len(a.links))


@both_encodings
def test_client_gone_cancels(env):
    a, o, d = setup(env, lambda ev: None if ev.uri == "/" else allow(),
                    {"connections": 1})
    eq(fetch(d.port, target="/first").status, 200)
    o.seen.clear()
    c = Raw(d.port)
    c.request()
    ev = a.wait(lambda e: e.kind == "request_head" and e.uri == "/")
    c.close(hard=True)
    eq(a.wait("cancel").id, ev.id)
    a.wait(lambda e: e.kind == "complete" and e.id == ev.id)
    d.wait_idle()
    eq(d.metric("agent_abandoned_total", agent="waf"), 1)
    eq(o.seen, [])


def test_raw_body(env):
    """MessagePack with raw_body: data is a bin."""
    env.encoding = "msgpack"
    a, o, d = setup(env, None, {"raw_body": True, "encoding": "msgpack"},
                    use={"request_body": "stream"})
    body = os.urandom(100000)
    eq(fetch(d.port, "POST", "/", body=body).body, b"POST /\n" + body)
    eq(b"".join(e.data for e in a.of("request_chunk")), body)
    check(isinstance(a.of("request_chunk")[0].payload["data"], bytes))


def test_msgpack_map_shape(env):
    env.encoding = "msgpack"
    a, o, d = setup(env, None, {"msgpack_shape": "map"})
    eq(fetch(d.port).status, 200)
    eq(a.wait("request_head").uri, "/")


# ---- what the handshake says ---------------------------------------------------

def test_limits_of_the_handshake(env):
    """Chunks and held bodies are no larger than the agent says; what it does
    not list it is asked all the same, and a warning says so."""
    a = env.agent("waf", limits={"preferred_chunk_size": 4096,
                                 "max_body_size": 50000,
                                 "max_concurrency": 3})
    o = env.origin()
    conf = env.config(o.port, {"waf": {}}, {"agents": [
        {"name": "waf", "request_body": "hold", "max_body": "1MiB"}]})
    conf["routes"].insert(0, dict(
        conf["routes"][0], name="streams", match={"path_prefix": "/stream"},
        agents=[{"name": "waf", "request_body": "stream"}]))
    d = env.start(conf)
    body = os.urandom(100000)
    eq(fetch(d.port, "POST", "/stream", body=body).status, 200)
    chunks = a.of("request_chunk")
    eq(b"".join(e.data for e in chunks), body)
    eq(max(len(e.data) for e in chunks), 4096)
    eq(fetch(d.port, "POST", "/hold", body=body[:50000]).status, 200)
    eq(fetch(d.port, "POST", "/hold", body=body[:50001]).status, 413)
    log = d.own_log()
    check("not_listed=request_chunk" in log, log)
    check("agent_limits agent=waf" in log, log)
