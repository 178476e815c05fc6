"""For people who write agents: the examples of docs/writing-agents.md, built
and run as their authors would, behind the daemon."""
import os
import re
import shutil
import signal
import subprocess
import threading

from agent import Agent, Link
from lib import ROOT, Skip, check, eq, fetch, wait_for
from test_dialects import Scripted
from test_interop import AGENTS, built

EXAMPLES = os.path.join(ROOT, "agents/examples")


def run(argv, **more):
    p = subprocess.run(argv, capture_output=True, text=True, **more)
    eq(p.returncode, 0, "%s: %s%s" % (argv[:3], p.stdout, p.stderr))
    return p.stdout


def check_agent(env, path, *options):
    p = subprocess.run([env.binary("agentproxyd"), "check-agent"]
                       + list(options) + [path],
                       capture_output=True, text=True, timeout=60)
    return p.returncode, p.stdout + p.stderr


def example(env, argv, encoding="json", mode="stream", **environ):
    """What all of them do; the agent's process."""
    sock = env.path("waf.sock")
    with open(env.path("agent.log"), "wb") as log:
        agent = env.spawn(argv + [sock], stdout=log, stderr=log,
                          env=dict(os.environ, **environ))
    wait_for(lambda: os.path.exists(sock) or agent.poll() is not None,
             "the agent's socket")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {"timeout": "5s",
                                   "may_mutate": "request"}},
                  {"agents": [{"name": "waf", "request_body": mode}]})
    r = fetch(d.port)
    eq((r.status, r.get("x-checked-by"), o.seen[0].get("x-checked-by")),
       (200, "example", "example"))
    r = fetch(d.port, target="/admin/x")
    eq((r.status, r.body), (403, b"denied\n"))
    eq(len(o.seen), 1)
    for body in (b"nothing", b"a secret, a secret", b"x" * 200000):
        r = fetch(d.port, "POST", body=body)
        eq(r.status, 200)
        eq(o.seen[-1].body, body.replace(b"secret", b"******"))
    eq(d.metric("agent_failures_total"), 0)
    instance = '"encoding":"%s"' % encoding
    check(instance in d.admin("/agents").text.replace(" ", ""), instance)
    code, text = check_agent(env, sock)
    eq(code, 0, text)
    check("fail" not in text.replace("0 failed", ""), text)
    return agent, d


def test_authors_guide(env):
    """What the guide quotes is what is tested here."""
    with open(os.path.join(ROOT, "docs/writing-agents.md")) as f:
        quotes = dict(re.findall(r"<!-- (\S+) -->\n```\w+\n(.*?)```\n",
                                 f.read(), re.S))
    eq(sorted(quotes), ["agents/examples/" + e for e in (
        "c/example.c", "go/main.go", "python/example.py",
        "rust/src/main.rs")])
    for path, text in quotes.items():
        with open(os.path.join(ROOT, path)) as f:
            eq(text, f.read(), path)


# ---- C ------------------------------------------------------------------------

def installed(env):
    """libagentproxy as `make install` leaves it; flags that find it."""
    flavour = os.path.basename(env.build)
    top = env.path("root")
    run(["make", "-s", "-C", ROOT, "install-lib", "FLAVOUR=" + flavour,
         "DESTDIR=" + top, "PREFIX=/usr"])
    flags = run(["pkg-config", "--cflags", "--libs", "libagentproxy"],
                env=dict(os.environ, PKG_CONFIG_SYSROOT_DIR=top,
                         PKG_CONFIG_PATH=top + "/usr/lib/pkgconfig")).split()
    sanitize = {"asan": ["-fsanitize=address,undefined"],
                "tsan": ["-fsanitize=thread"]}.get(flavour, [])
    return top + "/usr/lib", sanitize, flags


def test_authors_c(env):
    lib, sanitize, flags = installed(env)
    src, out = os.path.join(EXAMPLES, "c/example.c"), env.path("example")
    run(["cc", "-Wall", "-Werror"] + sanitize + [src, "-o", out] + flags)
    agent, d = example(env, [out], "msgpack",
                       LD_LIBRARY_PATH=lib)
    rules = d.access(2)[1]["agents"][0]["rules"]
    eq(rules, ["admin"])
    agent.send_signal(signal.SIGTERM)
    eq(agent.wait(10), 0)
    check(not os.path.exists(env.path("waf.sock")), "the socket is left")


def test_authors_c_static(env):
    lib, sanitize, flags = installed(env)
    src, out = os.path.join(EXAMPLES, "c/example.c"), env.path("example")
    run(["cc"] + sanitize + [src, "-o", out]
        + [f for f in flags if not f.startswith("-l")]
        + [lib + "/libagentproxy.a", "-ljansson"])
    example(env, [out], "msgpack", "hold")


def test_authors_c_dials(env):
    """An agent on the library that dials in: it waits for the proxy, and comes
    back to the next one."""
    lib, sanitize, flags = installed(env)
    with open(os.path.join(EXAMPLES, "c/example.c")) as f:
        text = f.read()
    src, out = env.path("dials.c"), env.path("dials")
    call = "agentproxy_run(a, argv[1])"
    check(call in text)
    with open(src, "w") as f:
        f.write(text.replace(call, 'agentproxy_dial(a, argv[1], "hush-hush", 2)'))
    run(["cc"] + sanitize + [src, "-o", out] + flags)
    door, said = env.path("door"), env.path("agent.log")
    with open(said, "wb") as log:
        agent = env.spawn([out, door], stderr=log,
                          env=dict(os.environ, LD_LIBRARY_PATH=lib))
    o = env.origin()
    c = env.config(o.port, agent_listener={"address": "unix:" + door},
                   workers=2)
    c["agents"] = {"example": {"reverse": {"token": "another-one"},
                               "on_failure": "deny"}}
    c["routes"][0]["agents"] = ["example"]

    def asked(d):
        wait_for(lambda: fetch(d.port).status == 200, "the agent")
        for _ in range(10):
            eq(fetch(d.port).get("x-checked-by"), "example")
            eq(fetch(d.port, target="/admin").status, 403)
    d = env.start(c, False)
    wait_for(lambda: "agent_refused" in d.own_log(), "a refusal")
    c["agents"]["example"]["reverse"]["token"] = "hush-hush"
    d.reload()
    asked(d)
    d.stop()
    env.daemons.remove(d)
    asked(env.start(c, False))
    agent.send_signal(signal.SIGTERM)
    eq(agent.wait(10), 0)
    with open(said) as f:
        lines = f.read().splitlines()
    check(0 < len(lines) <= 5, lines)       # once for each reason


def test_authors_c_names(env):
    """The libraries show what the header has, and nothing else."""
    lib, _, flags = installed(env)
    header = os.path.join(lib, "../include/agentproxy.h")
    with open(header) as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    want = set(re.findall(r"\b(agentproxy_\w+)\(", text))
    for name, option in ("libagentproxy.so", "-D"), ("libagentproxy.a", "-g"):
        out = run(["nm", option, "--defined-only", os.path.join(lib, name)])
        have = set(re.findall(r" T (?:_*asan\w*|(\w+))", out)) - {""}
        eq(have, want, name)
    run(["cc", "-x", "c", "-std=c99", "-pedantic", "-Wall", "-Wextra",
         "-Werror", "-fsyntax-only", header])


# ---- the others ---------------------------------------------------------------

def test_authors_python(env):
    agent, d = example(
        env, ["python3", os.path.join(EXAMPLES, "python/example.py")],
        PYTHONPATH=os.path.join(ROOT, "agents/python"))
    eq(d.access(2)[1]["agents"][0]["rules"], ["admin"])
    agent.send_signal(signal.SIGTERM)
    eq(agent.wait(10), 0)
    check(not os.path.exists(env.path("waf.sock")), "the socket is left")


def test_authors_go(env):
    if not shutil.which("go"):
        raise Skip("no go here")
    out = env.path("example")
    run(["go", "build", "-o", out, "."], cwd=os.path.join(EXAMPLES, "go"),
        env=dict(os.environ, GOFLAGS="-buildvcs=false", GO111MODULE="on",
                 GOCACHE=os.environ.get("GOCACHE", os.path.join(
                     ROOT, "build/go-cache"))))
    example(env, [out])


def test_interop_example_rust(env):
    example(env, [built("example")], mode="buffer")


# ---- check-agent --------------------------------------------------------------

PROBES = ["request_head", "request_chunk", "response_head", "response_chunk",
          "complete", "configure", "order", "links", "ping", "cancel",
          "cut frame", "long chunk", "hang-up", "unreadable event",
          "bad length"]


def verdicts(text):
    return {name: verdict for verdict, name in
            re.findall(r"^(pass|warn|fail)  (\S+(?: \S+)?)  ", text, re.M)}


def checked(env, script="", dialect="v2", code=0, options=(), **want):
    """What check-agent says of a scripted agent; want: verdicts that are not
    pass."""
    a = Scripted(env, dialect, script)
    try:
        got, text = check_agent(env, a.path, *options)
    finally:
        a.proc.kill()
        a.proc.wait()
        os.unlink(a.path)
    eq(got, code, text)
    have = verdicts(text)
    eq({n: v for n, v in have.items() if v != "pass"},
       {n.replace("_X_", " "): v for n, v in want.items()},
       script + text)
    return have, text


def test_check_agent_dialects(env):
    have, text = checked(env)
    eq(sorted(have), sorted(PROBES + ["json"]))
    for line in ("name      scripted", "version   ", "dialect   v2",
                 "encoding  msgpack", "features  streaming_body config_push",
                 "events    request_head request_chunk response_head "
                 "response_chunk complete configure"):
        check(line in text, text)
    have, text = checked(env, dialect="go")
    eq(sorted(have), sorted(set(PROBES) - {"configure"}))
    check("dialect   go" in text and "encoding  json" in text and
          "features  streaming cancellation" in text, text)
    for options in (), ("--v1",):
        have, text = checked(env, dialect="v1", options=options,
                             unreadable_X_event="warn")
        eq(sorted(have), sorted(set(PROBES) - {"ping", "cancel"}))
        check("dialect   v1" in text, text)


def test_check_agent_bad(env):
    for script, want in (
            ("on request_head bad-payload", {"request_head": "fail"}),
            ("on request_head wrong-id", {"request_head": "fail"}),
            ("on request_head empty-id", {"request_head": "fail"}),
            ("on request_head no-reply", {"request_head": "fail"}),
            ("on request_chunk wrong-index", {"request_chunk": "fail"}),
            ("on response_chunk bad-base64", {"response_chunk": "fail"}),
            ("on response_head close", {"response_head": "fail"}),
            ("on complete close", {"complete": "fail"}),
            ("on configure bad-payload", {"configure": "fail"}),
            ("ping silent", {"ping": "fail"}),
            ("handshake refuse", {"handshake": "fail"}),
            ("handshake close", {"handshake": "fail"}),
            ("handshake garbage", {"handshake": "fail"})):
        want = {n.replace(" ", "_X_"): v for n, v in want.items()}
        checked(env, script + "\n", code=1, **want)


def test_check_agent_odd(env):
    """What the proxy can live with is a warning."""
    checked(env, "on * no-id\n", request_head="warn", order="warn")
    checked(env, "on complete no-reply\n", complete="warn")
    checked(env, "on configure no-reply\n", configure="warn")
    # The heads of the probe for order.
    checked(env, "".join("on request_head nth=%d reorder 4\n" % n
                         for n in (4, 5, 6, 7)), order="warn")
    _, text = checked(env, "on configure reply block status=500\n")
    check("{} is refused" in text, text)


class OneLink(Agent):
    """Serves a connection to its end before it takes the next."""

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            Link(self, sock).run()


class OneRead(Link):
    """Takes a frame to come in one piece."""

    def read_frame(self):
        got = self.sock.recv(1 << 20)
        if len(got) < 5 or int.from_bytes(got[:4], "big") != len(got) - 4:
            return None, None
        return got[4], got[5:]


class MapsOnly(Link):
    """Cannot read structs that are arrays."""

    def on_frame(self, kind, body):
        if body[:1] and 0x90 <= body[0] <= 0x9f:
            raise EOFError
        Link.on_frame(self, kind, body)

    def run(self):
        try:
            Link.run(self)
        finally:
            self.agent.errors.clear()


class Odd(Agent):
    link = None

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.link(self, sock).run,
                             daemon=True).start()


def test_check_agent_readers(env):
    for kind, link, code, probe, verdict in (
            (OneLink, None, 1, "links", "fail"),
            (Odd, OneRead, 1, "cut frame", "fail"),
            (Odd, MapsOnly, 0, "request_head", "warn")):
        kind.link = link
        a = kind(env.path("waf.sock"), encoding="msgpack")
        got, text = check_agent(env, a.path)
        a.stop()
        eq((got, verdicts(text)[probe]), (code, verdict), text)


def test_interop_check_agent(env):
    """Agents on the public crates: nothing fails. What they cannot read they
    allow, in JSON under the right id."""
    for name, (dialect, encoding, _, _) in AGENTS.items():
        if dialect == "go":
            continue            # no registry has that SDK
        sock = env.path(name + ".sock")
        env.spawn([built(name), sock], stdout=subprocess.DEVNULL,
                  stderr=subprocess.DEVNULL)
        wait_for(lambda: os.path.exists(sock), "the agent's socket")
        code, text = check_agent(env, sock)
        eq(code, 0, name + "\n" + text)
        eq([n for n, v in verdicts(text).items() if v == "warn"],
           ["unreadable event"] if (dialect, encoding) == ("v2", "json")
           else [], text)
        check("dialect   %s\nencoding  %s\n" % (dialect, encoding) in text,
              text)


def test_check_agent_nobody(env):
    code, text = check_agent(env, env.path("none"))
    eq(code, 1)
    check("No such file" in text, text)
    eq(subprocess.run([env.binary("agentproxyd"), "check-agent"],
                      capture_output=True, timeout=30).returncode, 2)
