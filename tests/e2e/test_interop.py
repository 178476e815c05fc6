"""Agents of ours on the public crates, so that our codec is not tested against
itself alone: dialect x encoding x event x decision, through the daemon. Built
by tests/interop/build; skipped where they are not. What ran against what goes
to build/interop/cells.json, of which tests/interop/table makes a page."""
import json
import os
import re
import subprocess

from lib import ROOT, Raw, Skip, check, eq, fetch, wait_for

BUILT = os.path.join(ROOT, "build/interop")

# name: dialect, encoding, what it is made of, modes of its chunk events. The
# SDK never tells a handler a chunk's index, so it can mutate in buffer only.
ALL = ("stream", "hold", "buffer")
AGENTS = {
    "json": ("v2", "json", "crate zentinel-agent-protocol 0.6.45", ALL),
    "msgpack": ("v2", "msgpack", "crate zentinel-agent-protocol 0.6.45 with "
                "`binary-uds`: replies are maps", ALL),
    "old-msgpack": ("v2", "msgpack", "crate zentinel-agent-protocol 0.6.26: "
                    "replies are arrays", ALL),
    "new-msgpack": ("v2", "msgpack", "crate zentinel-agent-protocol 0.6.54",
                    ALL),
    "sdk-json": ("v2", "json", "zentinel-agent-sdk 0.3.0", ("buffer",)),
    "sdk-msgpack": ("v2", "msgpack", "zentinel-agent-sdk 0.3.0 with "
                    "`binary-uds`",
                    ("buffer",)),
    "v1": ("v1", "json", "crate sentinel-agent-protocol 0.4.14", ALL),
    "sdk-v1": ("v1", "json", "zentinel-agent-sdk 0.2.0", ("buffer",)),
    # No registry has the Go SDK.
    "go": ("go", "json", "scripted-agent, which is ours", ALL),
}
SHORT = {"json": "crate 0.6.45", "msgpack": "crate 0.6.45",
         "old-msgpack": "crate 0.6.26", "new-msgpack": "crate 0.6.54",
         "sdk-json": "SDK 0.3.0", "sdk-msgpack": "SDK 0.3.0",
         "v1": "v1 crate 0.4.14", "sdk-v1": "SDK 0.2.0",
         "go": "scripted-agent"}
EVENTS = ("request-head", "request-chunk", "response-head", "response-chunk")
DECISIONS = ("allow", "block", "edit", "redirect", "challenge", "auth",
             "replace", "drop", "more", "slow", "crash")
CELLS = {}      # (agent, event, decision): modes it was seen in

BODY = b"a" * 1024 + b"swap-me".ljust(1024, b"b") + b"c" * 100


def built(name):
    """The agent's program."""
    path = os.path.join(BUILT, "agent-" + name)
    if os.path.exists(path):
        return path
    try:
        with open(os.path.join(BUILT, "skipped")) as f:
            raise Skip(f.read().strip())
    except FileNotFoundError:
        raise Skip("not built: make check-interop") from None


def script():
    """What decide.rs does, for the scripted agent."""
    out = []
    for event in EVENTS:
        name, side = event.replace("-", "_"), event.split("-")[0]
        first = "index=0 " if event.endswith("chunk") else ""

        def on(what, does, cond="", name=name, event=event):
            out.append("on %s %spath=/*/%s/%s %s" % (name, cond, event, what,
                                                     does))
        refuse = ('reply block status=429 body="blocked by interop" '
                  'header=x-block:yes; set response x-interop block; audit '
                  'tag=interop rule=rule-1 reason=BECAUSE')
        on("block", refuse)
        on("edit", "; ".join(
            "set %s x-set by-agent; add %s x-add two; remove %s x-remove"
            % (s, s, s) for s in (["request"] if side == "request" else [])
            + ["response"]), first)
        on("redirect", "redirect https://example.com/x?y=1 307")
        on("challenge", "challenge captcha site=k")
        on("auth", 'challenge basic "www-authenticate=Basic realm=interop"')
        on("slow", "delay 800ms")
        on("crash", "close")
        if event.endswith("head"):
            on("more", "needs_more")
        for at in (side + "-head", side + "-chunk"):
            if event.endswith("chunk"):
                on("more", "needs_more", "last=no ", event=at)
                on("more", refuse, "last=yes match=bad ", event=at)
    return "\n".join(out) + "\n"


def program(env, name, sock):
    if name != "go":
        return [built(name), sock]
    path = env.path("agent.script")
    with open(path, "w") as f:
        f.write(script())
    return [env.binary("scripted-agent"), "-s", sock, "-f", path,
            "--dialect", "go"]


def started(env, name):
    """The agent's process; returns what it has said so far, when called."""
    sock, said = env.path("waf.sock"), env.path("agent.log")
    with open(said, "wb") as log:
        env.spawn(program(env, name, sock), stdout=log, stderr=log)
    wait_for(lambda: os.path.exists(sock), "the agent's socket")

    def text():
        with open(said, errors="replace") as f:
            return f.read()
    return text


def tried(env, config):
    """What -t says against it; an older daemon lacks some keys and words."""
    path = env.path("try.yaml")
    with open(path, "w") as f:
        json.dump(config, f)
    return subprocess.run([env.binary("agentproxyd"), "-t", "-c", path],
                          stdout=subprocess.PIPE, text=True,
                          stderr=subprocess.STDOUT)


def route(mode):
    use = {"name": "waf", "response_head": True}
    if mode != "none":
        use.update(request_body=mode, response_body=mode)
    if mode in ("hold", "buffer"):
        use["max_body"] = "2MiB"
    return {"name": mode, "upstream": "app", "agents": [use],
            "match": {"path_prefix": "/" + mode}}


def dials_in(env, config, links):
    """The agent does, by way of tests/interop/relay."""
    door, token = env.path("door"), "sesame-open"
    config["agent_listener"] = {"address": "unix:" + door}
    del config["agents"]["waf"]["socket"]
    config["agents"]["waf"]["reverse"] = {"token": token}
    with open(env.path("relay.log"), "wb") as log:
        env.spawn([os.path.join(ROOT, "tests/interop/relay"),
                   env.path("waf.sock"), door, "waf", token, str(links)],
                  stderr=log)


def proxied(env, name, links=0, **agent):
    """The agent, an echo, and the daemon with a route for each mode. links: of
    an agent that dials in."""
    dialect, encoding = AGENTS[name][:2]
    if links:
        encoding = "json"
    said = started(env, name)

    def serve(x):
        body = x.read_body() or x.target.encode()
        x.answer(200, body, [("X-Set", "origin"), ("X-Add", "one"),
                             ("X-Remove", "yes")])
    o = env.origin(serve)
    agent = dict({"timeout": "5s", "may_mutate": "both", "chunk_size": "1KiB",
                  "dialect": "v1" if dialect == "v1" else "auto"}, **agent)
    config = env.config(o.port, {"waf": agent}, workers=2)
    config["routes"] = [route(m) for m in ("none",) + ALL]
    if links:
        config["workers"] = 3
        dials_in(env, config, links)
    t = tried(env, config)
    for line in t.stdout.splitlines() if t.returncode else ():
        if re.search(r"agents\.waf\.(dialect|config):", line):
            raise Skip("this daemon can't: " + line.split(": ", 1)[1])
    eq(t.returncode, 0, t.stdout)
    d = env.start(config)
    inst = json.loads(d.admin("/agents").body)["agents"][0]["instances"][0]
    eq((inst["dialect"], inst["encoding"]), (dialect, encoding))
    return o, d, said


# ---- cells -------------------------------------------------------------------

class Cell:
    """One exchange whose EVENT the agent answers with WHAT."""

    def __init__(self, o, d, mode, event, what, sdk):
        self.o, self.d, self.mode, self.event = o, d, mode, event
        self.target = "/%s/%s/%s" % (mode, event, what)
        self.sdk, self.before = sdk, len(o.seen)
        self.request_side = event.startswith("request")

    def go(self, body=None):
        if body is None and self.mode != "none":
            body = BODY
        c = Raw(self.d.port)
        c.request("POST" if body else "GET", self.target,
                  [("X-Set", "client"), ("X-Add", "one"),
                   ("X-Remove", "yes")], body)
        r = c.response()
        c.close()
        return r

    def forwarded(self):
        return self.o.seen[self.before:]

    def answered(self, status, *names):
        """By the proxy; nothing of it at the upstream on the request side."""
        r = self.go()
        eq(r.status, status)
        eq(r.get("x-remove"), None, "a header of the upstream")
        if self.request_side:
            eq(self.forwarded(), [], "the upstream")
        return r


def cell_allow(c):
    r = c.go()
    x, = c.forwarded()
    eq((r.status, r.body), (200, x.body or c.target.encode()))
    eq(x.body, BODY if c.mode != "none" else b"")
    eq((x.get("x-set"), x.all("x-add"), x.get("x-remove")),
       ("client", ["one"], "yes"))


def cell_block(c):
    r = c.answered(429)
    eq((r.body.strip(), r.get("x-block"), r.get("x-interop")),
       (b"blocked by interop", "yes", "block"))


def cell_edit(c):
    r = c.go()
    eq(r.status, 200)
    x, = c.forwarded()
    add = ["one"] if c.sdk else ["one", "two"]
    eq((r.get("x-set"), r.all("x-add"), r.get("x-remove")),
       ("by-agent", add, None))
    if c.request_side:
        eq((x.get("x-set"), x.all("x-add"), x.get("x-remove")),
           ("by-agent", add, None))


def cell_redirect(c):
    r = c.answered(302 if c.sdk else 307)
    eq(r.get("location"), "https://example.com/x?y=1")


def cell_challenge(c):
    eq(json.loads(c.answered(403).body),
       {"challenge_type": "captcha", "params": {"site": "k"}})


def cell_auth(c):
    r = c.answered(401)
    eq(r.get("www-authenticate").replace('"', ""), "Basic realm=interop")


def mutated(c, word):
    want = word if c.mode == "buffer" else BODY[:1024] + word + b"c" * 100
    r = c.go()
    eq(r.status, 200)
    x, = c.forwarded()
    eq(x.body, want if c.request_side else BODY)
    # An empty body of the request is echoed as the target.
    eq(r.body, want or (c.target.encode() if c.request_side else b""))


def cell_replace(c):
    mutated(c, b"swapped")


def cell_drop(c):
    mutated(c, b"")


def cell_more(c):
    r = c.go()
    eq((r.status, r.body), (200, BODY))
    c.before = len(c.o.seen)
    r = c.go(BODY + b"bad")
    eq(r.status, 429)
    if c.request_side:
        eq(c.forwarded(), [], "the upstream")


def cell_slow(c):
    c.answered(504)


def cell_crash(c):
    c.answered(503)


def modes_of(name, event, what):
    """In which a cell runs; none where the dialect can't do it."""
    chunks = AGENTS[name][3]
    if what in ("replace", "drop"):
        if name == "go":
            return ()       # the dialect has no mutations
        return chunks if event.endswith("chunk") else ()
    if what == "more":
        # In stream, a chunk that is not decided goes on all the same.
        return [m for m in chunks if event.endswith("head") or m != "stream"]
    return chunks if event.endswith("chunk") else ("none",)


def run_cell(name, o, d, event, what):
    for mode in modes_of(name, event, what):
        c = Cell(o, d, mode, event, what, name.startswith("sdk"))
        try:
            globals()["cell_" + what](c)
        except Exception as e:
            raise AssertionError("%s %s in %s: %s" % (
                event, what, mode, e)) from e
        CELLS.setdefault((name, event, what), []).append(mode)


def completes(said, name, n):
    mark = '"type":"complete"' if name == "go" else "\ncomplete "
    wait_for(lambda: said().count(mark) >= n - 1,
             "the agent's completes: %d of %d" % (said().count(mark), n))
    for line in ("request-head allow 200", "request-head block 429",
                 "response-head auth 401"):
        check(name == "go" or "complete " + line in said(), line)


def decisions(env, name, links=0):
    """All that ends well."""
    o, d, said = proxied(env, name, links)
    asked = [w for w in DECISIONS if w not in ("slow", "crash")]
    for event in EVENTS:
        for what in asked:
            run_cell(name, o, d, event, what)
    d.wait_idle()
    eq(d.metric("agent_failures_total", agent="waf"), 0)
    sent = sum(d.metric("agent_events_total", agent="waf", event=e)
               for e in ("request_head", "request_chunk", "response_head",
                         "response_chunk"))
    eq(d.metric("agent_decisions_total", agent="waf"), sent)
    # Each exchange was ended for the agent too, with the client's status.
    completes(said, name, d.metric("agent_events_total", agent="waf",
                                   event="request_head"))
    CELLS[name, "complete", "allow"] = ["none"]
    block = [line for line in d.access(2)
             if line["target"] == "/none/request-head/block"]
    got = [a for a in block[0]["agents"] if a["event"] == "request_head"][0]
    eq((got["verdict"], got["tags"], got["rules"], got["reasons"]),
       ("block", ["interop"], ["rule-1"], ["BECAUSE"]))


def failing(env, name, what, cause, limit, links=0):
    """Each cell once, and the agent is as before."""
    o, d, _ = proxied(env, name, links, timeout=limit)
    n = 0
    for event in EVENTS:
        run_cell(name, o, d, event, what)
        n += len(modes_of(name, event, what))
        eq(d.metric("agent_failures_total", agent="waf", cause=cause), n)
        # While one handler sleeps, the SDK keeps all heads waiting.
        wait_for(lambda: fetch(d.port, target="/none/x/allow").status == 200,
                 "the agent is back")
        n = d.metric("agent_failures_total", agent="waf", cause=cause)


def slow(env, name):
    failing(env, name, "slow", "timeout", "200ms")


def crash(env, name):
    failing(env, name, "crash", "closed", "5s")


def bulk(env, name):
    """Big bodies both ways, in each mode, and many requests at once."""
    o, d, _ = proxied(env, name, chunk_size="64KiB")
    body = os.urandom(700000)
    for mode in AGENTS[name][3]:
        r = fetch(d.port, "POST", "/%s/-/allow" % mode, body=body)
        eq((r.status, r.body == body, o.seen[-1].body == body),
           (200, True, True), mode)
    s = env.load(d, "-c", 16, "-d", 0.5, "-p", "/none/n/%")
    eq((s["ok"], s["status"]), (s["sent"], {"200": s["sent"]}))
    check(s["sent"] > 50)
    eq(d.metric("agent_failures_total", agent="waf"), 0)


def configured(env, name):
    """Pushed on each link; a refusal makes the agent unhealthy."""
    o, d, said = proxied(env, name, config={"paranoia": 2})
    eq(fetch(d.port, target="/none/x/allow").status, 200)
    check('configure {"paranoia":2}' in said(), said())
    CELLS[name, "configure", "allow"] = ["none"]
    d.config["agents"]["waf"]["config"] = {"refuse": True}
    d.reload()
    wait_for(lambda: json.loads(d.admin("/agents").body)["agents"][0]["state"]
             == "unhealthy", "the refusal")
    eq(fetch(d.port, target="/none/x/allow").status, 503)
    CELLS[name, "configure", "block"] = ["none"]


def reverse(env, name):
    """It dials in, with one connection for three workers; all is as before."""
    decisions(env, name, links=1)


def reverse_crash(env, name):
    failing(env, name, "crash", "closed", "5s", links=2)


def register():
    for name in AGENTS:
        for fn in (decisions, slow, crash, bulk, configured):
            if (name, fn) == ("go", configured):
                continue        # go-v2 has no configure
            def test(env, fn=fn, name=name):
                fn(env, name)
            globals()["test_interop_%s_%s" % (name, fn.__name__)] = test
    # Always JSON then, whatever else it speaks.
    for name in ("json", "old-msgpack", "new-msgpack", "sdk-json"):
        for fn in (reverse, reverse_crash):
            def test_reverse(env, fn=fn, name=name):
                # No column of the table: that is of those that are dialled.
                before = {k: list(v) for k, v in CELLS.items()}
                try:
                    fn(env, name)
                finally:
                    CELLS.clear()
                    CELLS.update(before)
            globals()["test_interop_%s_%s" % (name, fn.__name__)] = \
                test_reverse


def results():
    """For tests/interop/table, which makes docs/dialects.md of it."""
    columns = [(n, e, w) for n in AGENTS for e in EVENTS for w in DECISIONS
               if modes_of(n, e, w)]
    columns += [(n, "complete", "allow") for n in AGENTS]
    columns += [(n, "configure", w) for n in AGENTS if n != "go"
                for w in ("allow", "block")]
    return {"agents": {name: {"dialect": d, "encoding": e, "text": text,
                              "short": SHORT[name]}
                       for name, (d, e, text, _) in AGENTS.items()},
            "can": {" ".join(k): True for k in columns},
            "ran": {" ".join(k): v for k, v in CELLS.items()}}


register()


def test_interop_results(env):
    if not CELLS:
        raise Skip("nothing ran")
    with open(os.path.join(BUILT, "cells.json"), "w") as f:
        json.dump(results(), f, indent=1)
