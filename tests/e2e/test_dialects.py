"""The dialects that agents speak, by the scripted agent: what each can do, and
how links and their configs come and go."""
import functools
import json
import os
import signal

from lib import check, eq, fetch, wait_for

SCRIPT = """
on request_head path=/block reply block status=418 body=no header=X-Why:b
on request_head path=/moved redirect https://x.example/ 302
on request_head path=/asked challenge captcha site=k
on request_head path=/ops set request X-User bob; remove request Cookie; \
set response X-R 1
on request_head path=/slow delay 3s
on request_head path=/cut close
on request_head path=/bad bad-payload
on request_head path=/blind empty-id
on request_chunk match=EVIL reply block status=403
on request_chunk path=/replace replace HELLO
on response_head path=/late reply block status=451
on configure match=never reply allow
"""
DIALECTS = ("v2", "go", "v1")


def all_dialects(fn):
    for dialect in DIALECTS:
        test = functools.partial(fn, dialect=dialect)
        test.__module__ = __name__
        globals()["%s_%s" % (fn.__name__.replace("test_", "test_dialect_"),
                             dialect)] = test
    return None


class Scripted:
    def __init__(self, env, dialect, script=SCRIPT, name="waf"):
        self.path = env.path(name + ".sock")
        self.log = env.path(name + ".jsonl")
        self.script = env.path(name + ".script")
        with open(self.script, "w") as f:
            f.write(script)
        self.env, self.dialect, self.proc = env, dialect, None
        self.start()

    def start(self):
        self.proc = self.env.spawn(
            [self.env.binary("scripted-agent"), "-s", self.path, "-f",
             self.script, "--dialect", self.dialect],
            stdout=open(self.log, "a"))
        wait_for(lambda: os.path.exists(self.path), "the agent's socket")

    def frames(self, kind=None):
        with open(self.log) as f:
            lines = [json.loads(x) for x in f if x.endswith("}\n")]
        return [x for x in lines if "type" in x and
                kind in (None, x["type"])]

    def wait(self, kind, n=1):
        wait_for(lambda: len(self.frames(kind)) >= n,
                 "%d %s" % (n, kind))
        return self.frames(kind)


def setup(env, dialect, agent=None, use=None, **more):
    a = Scripted(env, dialect)
    o = env.origin()
    conf = dict({"dialect": "v1" if dialect == "v1" else "auto",
                 "timeout": "1s"}, **(agent or {}))
    d = env.proxy(o.port, {"waf": conf},
                  {"agents": [dict({"name": "waf"}, **(use or {}))]}, **more)
    return a, o, d


def agents_page(d):
    return json.loads(d.admin("/agents").body)["agents"][0]


@all_dialects
def test_decisions(env, dialect):
    a, o, d = setup(env, dialect, {"on_failure": "deny"})
    eq(fetch(d.port, "GET", "/").status, 200)
    r = fetch(d.port, "GET", "/block")
    eq((r.status, r.body, r.get("x-why")), (418, b"no", "b"))
    r = fetch(d.port, "GET", "/moved")
    eq((r.status, r.get("location")), (302, "https://x.example/"))
    eq(fetch(d.port, "GET", "/asked").status, 403)
    eq(len(o.seen), 1, "requests at the upstream")
    r = fetch(d.port, "GET", "/ops", headers=[("Cookie", "a=1")])
    eq((r.status, r.get("x-r")), (200, "1"))
    sent = {n.lower(): v for n, v in o.seen[1].headers}
    eq(sent.get("x-user"), "bob")
    check("cookie" not in sent, "the cookie goes on")
    # Each exchange that the agent saw has come to its end there.
    a.wait("complete", 5)
    page = agents_page(d)
    eq((page["state"], page["breaker"]), ("healthy", "closed"))
    eq((page["instances"][0]["dialect"], page["instances"][0]["encoding"]),
       (dialect, "msgpack" if dialect == "v2" else "json"))


@all_dialects
def test_bodies(env, dialect):
    a, o, d = setup(env, dialect, {"on_failure": "deny",
                                   "may_mutate": "request"},
                    {"request_body": "buffer", "response_head": True})
    eq(fetch(d.port, "POST", "/", body=b"x" * 100000).status, 200)
    eq(o.seen[0].body, b"x" * 100000)
    eq(fetch(d.port, "POST", "/", body=b"an EVIL thing").status, 403)
    eq(len(o.seen), 1)
    r = fetch(d.port, "POST", "/replace", body=b"abc")
    eq(r.status, 200)
    # The Go SDK cannot replace.
    eq(o.seen[1].body, b"abc" if dialect == "go" else b"HELLO")
    eq(fetch(d.port, "GET", "/late").status, 451)


@all_dialects
def test_stream_of_chunks(env, dialect):
    a, o, d = setup(env, dialect, {"on_failure": "deny"},
                    {"request_body": "stream"})
    eq(fetch(d.port, "POST", "/", body=b"y" * 300000).status, 200)
    eq(o.seen[0].body, b"y" * 300000)
    wait_for(lambda: any(c["is_last"] for c in a.frames("request_chunk")),
             "the last chunk")
    chunks = a.frames("request_chunk")
    largest = 16384 if dialect == "v1" else 65536
    eq(max(c["bytes"] for c in chunks), largest)
    eq([c["index"] for c in chunks], list(range(len(chunks))))
    eq([c["is_last"] for c in chunks].count(True), 1)


@all_dialects
def test_failures(env, dialect):
    a, o, d = setup(env, dialect, {"on_failure": "deny", "timeout": "300ms"})
    eq(fetch(d.port, "GET", "/slow").status, 504)
    eq(fetch(d.port, "GET", "/bad").status, 502)
    eq(fetch(d.port, "GET", "/cut").status, 503)
    # v1 has no ids that could be empty.
    eq(fetch(d.port, "GET", "/blind").status,
       200 if dialect == "v1" else 502)
    eq(len(o.seen), 1 if dialect == "v1" else 0)
    wait_for(lambda: fetch(d.port, "GET", "/").status == 200, "a good answer")


@all_dialects
def test_comes_and_goes(env, dialect):
    a, o, d = setup(env, dialect, {"on_failure": "deny"})
    eq(fetch(d.port, "GET", "/").status, 200)
    a.proc.kill()
    a.proc.wait()
    wait_for(lambda: fetch(d.port, "GET", "/").status == 503, "a denial")
    check("errno=111" in d.own_log() or "errno=2" in d.own_log() or
          "agent_down" in d.own_log(), "no line in the log")
    os.unlink(a.path)
    a.start()
    wait_for(lambda: fetch(d.port, "GET", "/").status == 200, "recovery")


def test_config_pushed(env):
    a, o, d = setup(env, "v2", {"on_failure": "deny",
                                "config": {"paranoia": 2, "words": ["a"]}})
    eq(fetch(d.port, "GET", "/").status, 200)
    first = a.frames()
    kinds = [f["type"] for f in first if f["link"] == 1]
    eq(kinds[:2], ["handshake", "configure"])
    eq(json.loads(a.frames("configure")[0]["config"]),
       {"paranoia": 2, "words": ["a"]})
    shown = json.loads(d.admin("/config").body)
    eq(shown["config"]["agents"]["waf"]["config"],
       {"paranoia": 2, "words": ["a"]})
    # A reload pushes it only if it changed.
    n = len(a.frames("configure"))
    d.reload()
    eq(fetch(d.port, "GET", "/").status, 200)
    eq(len(a.frames("configure")), n)
    d.config["agents"]["waf"]["config"]["paranoia"] = 3
    d.reload()
    wait_for(lambda: any(json.loads(f["config"])["paranoia"] == 3
                         for f in a.frames("configure")), "the new config")
    eq(fetch(d.port, "GET", "/").status, 200)


def test_config_refused(env):
    a = Scripted(env, "v2", "on configure reply block status=500 body=nope\n")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"on_failure": "deny", "config": {"a": 1}}},
                  {"agents": [{"name": "waf"}]}, ready=False)
    wait_for(lambda: agents_page(d)["reason"] == "config refused: nope",
             "the reason")
    eq(agents_page(d)["state"], "unhealthy")
    eq(fetch(d.port, "GET", "/").status, 503)
    with open(a.script, "w") as f:
        f.write("")
    a.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: fetch(d.port, "GET", "/").status == 200,
             "it is asked again")


def test_breaker(env):
    a, o, d = setup(env, "v2", {"on_failure": "deny", "timeout": "50ms"})
    for _ in range(5):
        eq(fetch(d.port, "GET", "/bad").status, 502)
    eq(fetch(d.port, "GET", "/").status, 503)
    page = agents_page(d)
    eq((page["state"], page["breaker"]), ("unhealthy", "open"))
    eq(d.metric("agent_breaker_open", agent="waf"), 1)
    check("breaker agent=waf from=closed to=open" in d.own_log())
    eq(len(a.frames("request_head")), 5, "events at the agent")


def test_balance_and_fail_over(env):
    one = Scripted(env, "v2", "", "one")
    two = Scripted(env, "v2", "", "two")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"on_failure": "deny",
                                   "balance": "round_robin",
                                   "socket": [one.path, two.path]}},
                  {"agents": [{"name": "waf"}]})
    for _ in range(20):
        eq(fetch(d.port, "GET", "/").status, 200)
    for a in (one, two):
        check(len(a.wait("request_head")) >= 8, "an instance is left out")
    one.proc.kill()
    one.proc.wait()
    before = len(two.frames("request_head"))
    wait_for(lambda: fetch(d.port, "GET", "/").status == 200, "the other")
    for _ in range(10):
        eq(fetch(d.port, "GET", "/").status, 200)
    check(len(two.frames("request_head")) >= before + 10)


def test_go_questions(env):
    """go-v2 agents say nothing unasked: they are asked, and what they answer
    stands in the metrics."""
    a, o, d = setup(env, "go")
    wait_for(lambda: 'agentproxyd_reported_requests_total{agent="waf"}' in
             d.admin("/metrics").text, "the agent's metrics")
    kinds = [f["type"] for f in a.frames()]
    eq((kinds.count("0xe0"), kinds.count("0xe2")), (1, 1))
    eq(agents_page(d)["state"], "healthy")
