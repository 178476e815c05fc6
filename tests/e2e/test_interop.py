"""Agents built on the public crate, so that our codec is not tested against
itself alone. Built by tests/interop/build; skipped where they are not."""
import os

from lib import ROOT, Raw, Skip, check, eq, fetch, wait_for


def start(env, encoding, **use):
    agent = os.path.join(ROOT, "build/interop/agent-" + encoding)
    if not os.path.exists(agent):
        raise Skip("not built: make check-interop")
    sock = env.path("waf.sock")
    env.spawn([agent, sock])
    wait_for(lambda: os.path.exists(sock), "the agent's socket")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"timeout": "5s", "may_mutate": "request"}},
                  {"agents": [dict({"name": "waf"}, **use)]}, workers=2)
    import json
    inst = json.loads(d.admin("/agents").body)["agents"][0]["instances"][0]
    eq((inst["dialect"], inst["encoding"]), ("v2", encoding))
    return o, d


def heads(env, encoding):
    o, d = start(env, encoding, response_head=True)
    c = Raw(d.port)
    for i in range(50):
        c.request(target="/%d" % i, headers={"X-Latin": "caf\xe9"})
        r = c.response()
        eq((r.status, r.get("x-interop"), r.get("x-interop-status")),
           (200, "response", "200"))
        eq(o.seen[-1].get("x-interop"), "request")
        c.request(target="/block/%d" % i)
        r = c.response()
        eq((r.status, r.body, r.get("x-interop")),
           (403, b"blocked by interop\n", "block"))
    r = fetch(d.port, target="/redirect")
    eq((r.status, r.get("location")), (302, "https://example.com/"))
    eq(len(o.seen), 50)
    # Nothing was misread on either side.
    eq(d.metric("agent_failures_total", agent="waf"), 0)
    d.wait_idle()


def bodies(env, encoding, mode):
    o, d = start(env, encoding, request_body=mode, response_body=mode,
                 max_body="2MiB")
    body = os.urandom(300000)
    eq(fetch(d.port, "POST", "/", body=body).body, b"POST /\n" + body)
    n = len(o.seen)
    r = fetch(d.port, "POST", "/w", body=b"a forbidden word")
    eq((r.status, r.body), (451, b"word\n"))
    if mode == "hold":
        eq(len(o.seen), n, "the upstream")
    eq(fetch(d.port, "POST", "/s", body=b"swap-me").body,
       b"POST /s\nswapped")
    eq(d.metric("agent_failures_total", agent="waf"), 0)


def test_interop_heads_json(env):
    heads(env, "json")


def test_interop_heads_msgpack(env):
    heads(env, "msgpack")


def test_interop_stream_json(env):
    bodies(env, "json", "stream")


def test_interop_stream_msgpack(env):
    bodies(env, "msgpack", "stream")


def test_interop_hold_json(env):
    bodies(env, "json", "hold")


def test_interop_hold_msgpack(env):
    bodies(env, "msgpack", "hold")


def test_interop_load_msgpack(env):
    o, d = start(env, "msgpack")
    s = env.load(d, "-c", 16, "-d", 1, "-p", "/n/%")
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}))
    check(s["sent"] > 100)
    eq(d.metric("agent_failures_total", agent="waf"), 0)
