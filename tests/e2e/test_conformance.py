"""Lines of the protocol's conformance checklist that no other test holds;
tests/CONFORMANCE.md says which test holds which line."""
import json
import os
import re
import threading

from agent import (add_header, allow, block, mutation, set_header)
from lib import Raw, check, eq, fetch, wait_for
from test_dialects import Scripted

STREAM = {"request_body": "stream", "response_body": "stream"}


def one(env, handler, use=None, serve=None, encoding="json", **agent):
    a = env.agent("waf", handler, encoding)
    o = env.origin(serve)
    agent = dict({"timeout": "5s"}, **agent)
    return a, o, env.proxy(o.port, {"waf": agent},
                           {"agents": [dict({"name": "waf"}, **(use or {}))]})


def test_conf_values_of_events(env):
    """20, 22, 23, 75: what each event has, over several links and workers."""
    a = env.agent("waf", None, "msgpack")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"timeout": "5s"}},
                  {"agents": [dict(STREAM, name="waf")]}, workers=2)

    def client():
        for _ in range(20):
            eq(fetch(d.port, "POST", "/", body=b"abc").status, 200)
    ts = [threading.Thread(target=client) for _ in range(4)]
    for t in ts:
        t.start()
    for t in ts:
        t.join()
    wait_for(lambda: len(a.of("complete")) == 80, "all completes")
    heads = a.of("request_head")
    eq(len({ev.id for ev in heads}), 80, "ids")
    for ev in heads:
        check(re.fullmatch(r"[0-9a-f]{32}", ev.id), ev.id)
        m = ev.meta
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z",
                           m["timestamp"]), m["timestamp"])
        check(isinstance(m["client_port"], int) and
              0 < m["client_port"] < 65536, m)
    for ev in a.of("request_chunk") + a.of("response_chunk"):
        check(isinstance(ev.payload["data"], str), ev.payload)
    for ev in a.of("complete"):
        eq(ev.payload["status"], 200)


def test_conf_pseudo_headers(env):
    """102: for the agent that wants them, and not for the one beside it."""
    a, b = env.agent("one"), env.agent("two")
    o = env.origin()
    d = env.proxy(o.port, {"one": {"pseudo_headers": True}, "two": {}},
                  {"agents": ["one", "two"]})
    fetch(d.port, "GET", "/p?q=1")
    got = a.wait("request_head").headers
    eq((got[":method"], got[":path"]), (["GET"], ["/p?q=1"]))
    check(not [n for n in b.wait("request_head").headers if n[0] == ":"])
    check(not [n for n, _ in o.seen[0].headers if n[0] == ":"])


def test_conf_no_body_no_events(env):
    """81: HEAD, 204, 304 and what has no body."""
    def serve(x):
        x.read_body()
        status = {"/204": 204, "/304": 304}.get(x.target, 200)
        x.answer(status, b"" if status != 200 or x.target == "/empty" else
                 b"body")
    a, o, d = one(env, None, STREAM, serve)
    for method, target in (("HEAD", "/"), ("GET", "/204"), ("GET", "/304"),
                           ("GET", "/empty")):
        fetch(d.port, method, target)
    eq(fetch(d.port, "POST", "/empty", {"Content-Length": "0"}).status, 200)
    wait_for(lambda: len(a.of("complete")) == 5, "all completes")
    eq(a.of("request_chunk") + a.of("response_chunk"), [])
    eq(len(a.of("response_head")), 5)


def test_conf_block_of_a_late_chunk(env):
    """78: the block for the client, a broken request for the upstream."""
    got, ended = [], []

    def serve(x):
        try:
            while True:
                data = x.chunk()
                if not data:
                    break
                got.append(data)
            ended.append("complete")
        except (EOFError, OSError):
            ended.append("broken")
            raise

    def handler(ev):
        if ev.kind == "request_chunk" and b"EVIL" in ev.data:
            return block(403, "no\n")
        return allow()
    a, o, d = one(env, handler, {"request_body": "stream"}, serve)
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           "4\r\ngood\r\n")
    wait_for(lambda: b"".join(got) == b"good", "the first chunk")
    c.send("4\r\nEVIL\r\n0\r\n\r\n")
    r = c.response()
    eq((r.status, r.body), (403, b"no\n"))
    wait_for(lambda: ended, "the upstream's end")
    eq((ended, b"".join(got)), (["broken"], b"good"))
    o.errors.clear()


def test_conf_ops_of_a_chunk(env):
    """99: applied while the head of their side is held, else dropped and
    counted."""
    def handler(ev):
        if ev.kind != "request_chunk":
            return allow()
        n = str(ev.payload["chunk_index"])
        return allow(request_headers=[set_header("X-Chunk", n)],
                     response_headers=[add_header("X-Seen", n)])
    a, o, d = one(env, handler, {"request_body": "stream"},
                  chunk_size="1KiB")
    r = fetch(d.port, "POST", "/", body=b"x" * 3000)
    eq((r.status, o.seen[0].get("x-chunk")), (200, "0"))
    eq(r.all("x-seen"), ["0", "1", "2"])
    eq(d.metric("agent_ops_dropped_total", agent="waf"), 2)


def test_conf_ops_beside_a_block(env):
    """83: of a refusal only the blocker's own response ops."""
    a = env.agent("one", lambda ev: allow(
        response_headers=[set_header("X-One", "1")]))
    b = env.agent("two", lambda ev: block(
        403, "no", response_headers=[set_header("X-Two", "2")]))
    c = env.agent("three", lambda ev: allow(
        response_headers=[set_header("X-Three", "3")]))
    o = env.origin()
    d = env.proxy(o.port, {"one": {}, "two": {}, "three": {}},
                  {"agents": ["one", "two", "three"]})
    r = fetch(d.port)
    eq((r.status, r.get("x-one"), r.get("x-two"), r.get("x-three")),
       (403, None, "2", None))
    eq((o.seen, a.errors, b.errors, c.errors), ([], [], [], []))


def test_conf_refusal_never_allows(env):
    """35, 95: under allow, too, what is a refusal but cannot be applied
    refuses; what is only an allow that cannot be applied goes past."""
    bad = {"/crlf": block(403, "x", {"X": "a\r\nY: b"}),
           "/status": block(101), "/name": block(403, "x", {"a b": "c"}),
           "/ops": block(403, "x", response_headers=[set_header("", "x")]),
           "/redirect": {"decision": {"redirect": {"url": "a\rb",
                                                   "status": 302}}},
           "/type": {"decision": {"challenge": {"challenge_type": ""}}},
           "/allow": allow(request_headers=[set_header("X", "a\nb")]),
           "/wrong": allow(needs_more="yes")}
    a, o, d = one(env, lambda ev: bad.get(ev.uri, allow()),
                  on_failure="allow")
    for target in bad:
        # Or the breaker would open, which is no refusal.
        eq(fetch(d.port, target="/good").status, 200)
        o.seen.clear()
        past = target in ("/allow", "/wrong")
        eq(fetch(d.port, target=target).status, 200 if past else 403, target)
        eq([x.target for x in o.seen], [target] if past else [])
        check(not past or o.seen[0].get("x") is None, "an op of it")
    eq(d.metric("agent_bypass_total", agent="waf", cause="protocol"), 2)


def test_conf_audit_in_the_log(env):
    """46: an agent's words cannot break a line, and the id is none of them."""
    evil = 'a"b\n{"x":1}\x00\u2028'
    a, o, d = one(env, lambda ev: allow(audit={
        "tags": [evil], "rule_ids": ["r" * 5000], "reason_codes": ["\\"],
        "custom": {"k": evil}}))
    eq(fetch(d.port, headers={"X-Request-Id": "mine"}).status, 200)
    line, = d.access()
    got = line["agents"][0]
    check(got["tags"] and got["tags"][0].startswith('a"b'), got)
    check(len(got["rules"][0]) <= 300, len(got["rules"][0]))
    check("custom" not in got and
          line["correlation_id"] not in json.dumps(got), line)
    with open(d.access_path) as f:
        eq(f.read().count("\n"), 1)


def test_conf_raw_body_on_json(env):
    """76: an agent that speaks JSON gets base64 and a line in the log; with
    encoding: msgpack its links are refused."""
    a, o, d = one(env, None, {"request_body": "stream"}, raw_body=True)
    eq(fetch(d.port, "POST", "/", body=b"abc").body, b"POST /\nabc")
    eq(a.of("request_chunk")[0].payload["data"], "YWJj")
    eq(d.own_log().count(" raw_body agent=waf"), 1)
    conf = dict(d.config, agents={"waf": dict(
        d.config["agents"]["waf"], encoding="msgpack")})
    d.config.update(conf)
    d.reload()
    wait_for(lambda: "does not speak msgpack" in d.admin("/agents").text,
             "the link is refused")
    eq(fetch(d.port).status, 503)


def test_conf_bad_mutations(env):
    """45: another chunk's index, bad base64, a mutation of a head."""
    def handler(ev):
        if ev.kind == "request_head":
            return {"/head": allow(request_body_mutation={
                "data": "QQ==", "chunk_index": 0})}.get(ev.uri, allow())
        if ev.kind != "request_chunk":
            return allow()
        m = mutation(ev, b"A")
        if ev.uri_of == "/index":
            m["request_body_mutation"]["chunk_index"] = 7
        elif ev.uri_of == "/base64":
            m["request_body_mutation"]["data"] = "***"
        elif ev.uri_of == "/other":
            m = {"response_body_mutation": m["request_body_mutation"]}
        return allow(**m)
    uris = {}

    def remember(ev):
        if ev.kind == "request_head":
            uris[ev.id] = ev.uri
        ev.uri_of = uris.get(ev.id)
        return handler(ev)
    a, o, d = one(env, remember, {"request_body": "hold"},
                  may_mutate="request")
    eq(fetch(d.port, "POST", "/good", body=b"abc").body, b"POST /good\nA")
    for n, target in enumerate(("/index", "/base64", "/other", "/head"), 1):
        eq(fetch(d.port, "POST", target, body=b"abc").status, 502, target)
        eq(d.metric("agent_failures_total", agent="waf", cause="protocol"), n)
    eq(len(o.seen), 1)


def test_conf_go_types_and_ids(env):
    """27, 28, 56: what a go-v2 agent is sent, and the ids in it."""
    a = Scripted(env, "go", """
on request_head path=/slow delay 1s
on request_head path=/block reply block status=403
""")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"timeout": "100ms", "connections": 2}},
                  {"agents": [dict(STREAM, name="waf")]}, workers=4)
    for i in range(60):
        target = ("/", "/slow", "/block")[i % 3 if i < 9 else 2 * (i % 2)]
        fetch(d.port, "POST", target, body=os.urandom(10))
    c = Raw(d.port)
    c.send("POST /gone HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    c.close(hard=True)
    d.wait_idle()
    d.stop()
    wait_for(lambda: len(a.frames("complete")) >= 60, "the ends")
    types = {f["type"] for f in a.frames()}
    known = {"handshake", "0x01", "request_head", "request_chunk",
             "response_head", "response_chunk", "complete", "cancel", "0xe0", "0xe2",
             "0xf0"}
    eq(types - known, set())
    eq([f for f in a.frames() if f.get("unreadable")], [])
    heads = [f["correlation_id"] for f in a.frames("request_head")]
    eq(len(set(heads)), len(heads), "ids")
    for i in heads:
        check(0 < int(i, 16) < 1 << 63, i)
    ends = {f["correlation_id"] for f in a.frames("complete")}
    eq(set(heads) - ends, set(), "without an end")
