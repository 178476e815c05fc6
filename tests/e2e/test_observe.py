"""Command line, admin port, log, metrics."""
import json
import os
import re
import signal
import subprocess
import threading
import time

from agent import allow, block
from lib import ROOT, Raw, check, eq, fetch, wait_for

ACCESS = {"time", "request_id", "correlation_id", "listener", "client",
          "method", "host", "target", "protocol", "route", "upstream",
          "server", "attempts", "status", "ended_by", "ended_why",
          "request_bytes", "response_bytes", "us", "agents", "decided_by",
          "bypass", "generation"}
ACCESS_US = {"total", "request_head", "agents", "upstream_connect",
             "upstream_first_byte"}
ACCESS_AGENT = {"name", "event", "verdict", "cause", "status", "us",
                "queue_us", "chunks", "tags", "rules", "reasons"}
FAMILIES = """build_info start_time_seconds workers config_generation
config_reloads_total config_snapshots_live held_bytes connections
connections_total connections_refused_total exchanges_in_flight requests_total
ended_total bad_requests_total request_bytes_total response_bytes_total
request_seconds loop_lag_seconds upstream_requests_total upstream_errors_total
upstream_retries_total upstream_connections agent_events_total
agent_decisions_total agent_failures_total agent_bypass_total
agent_denied_total agent_abandoned_total agent_late_replies_total
agent_transcoded_total agent_ops_dropped_total agent_links
agent_reconnects_total agent_registrations_total
agent_registered_total agent_in_flight agent_seconds
agent_queue_seconds""".split()


def run(env, *args):
    return subprocess.run([env.binary("agentproxyd"), *args], text=True,
                          capture_output=True, timeout=30)


def test_command_line(env):
    eq(run(env, "-V").returncode, 0)
    for flag in ("-h", "--help"):
        r = run(env, flag)
        eq(r.returncode, 0)
        check("-c" in r.stdout, r.stdout)
    eq(run(env, "--nonsense").returncode, 2)
    eq(run(env, "-c", env.path("missing.yaml")).returncode, 2)


def test_config_test(env):
    good = env.path("good.yaml")
    with open(good, "w") as f:
        f.write("listeners:\n  - {name: a, address: '127.0.0.1:8080'}\n"
                "upstreams:\n  app: {servers: ['127.0.0.1:9000']}\n"
                "routes:\n  - upstream: app\n")
    r = run(env, "-t", "-c", good)
    eq((r.returncode, r.stdout.strip()), (0, good + ": ok"))
    bad = env.path("bad.yaml")
    with open(bad, "w") as f:
        f.write("workrs: 2\n"
                "listeners:\n  - {name: a, address: '127.0.0.1:0'}\n"
                "upstreams:\n  app: {servers: ['127.0.0.1:9000'], "
                "keepalive: -1}\n"
                "agents:\n  waf: {socket: /s, timeout: 5parsecs}\n"
                "routes:\n  - {upstream: ap, agents: [waf]}\n")
    r = run(env, "-t", "-c", bad)
    eq(r.returncode, 2)
    faults = [line for line in r.stderr.splitlines()
              if re.match(re.escape(bad) + r":\d+:\d+: \S+: ", line)]
    check(len(faults) >= 5, r.stderr)
    check("workers" in faults[0], "no nearest name: " + faults[0])


def test_shipped_configs(env):
    conf = os.path.join(ROOT, "conf")
    for name in sorted(os.listdir(conf)):
        # The alerts are Prometheus' rules.
        if name.endswith(".yaml") and name != "alerts.yaml":
            r = run(env, "-t", "-c", os.path.join(conf, name))
            eq(r.returncode, 0, name + ": " + r.stderr)


def test_bind_failure(env):
    d = env.proxy(env.origin().port)
    c = env.config(env.port())
    c["listeners"][0]["address"] = d.config["admin"]["address"]
    with open(env.path("second.yaml"), "w") as f:
        json.dump(c, f)
    eq(run(env, "-c", env.path("second.yaml")).returncode, 1)


def test_access_log(env):
    def handler(ev):
        return block(403) if ev.uri == "/no" else allow()
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "5s"}},
                  {"agents": [{"name": "waf", "request_body": "stream"}]})
    fetch(d.port, "POST", "/yes?q=\"", body=b"12345", host="h.example")
    fetch(d.port, target="/no")
    c = Raw(d.port)
    c.send("nonsense\r\n\r\n")
    eq(c.response().status, 400)
    yes, no, bad = d.access(3)
    for line in (yes, no, bad):
        check(ACCESS <= set(line), "missing: %s" % (ACCESS - set(line)))
        check(ACCESS_US <= set(line["us"]), line["us"])
        check(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z",
                           line["time"]), line["time"])
    for a in yes["agents"] + no["agents"]:
        check(ACCESS_AGENT <= set(a), "missing: %s" % (ACCESS_AGENT - set(a)))
    eq((yes["method"], yes["target"], yes["host"], yes["status"],
        yes["request_bytes"], yes["route"], yes["upstream"], yes["bypass"],
        yes["attempts"], yes["listener"], yes["client"], yes["protocol"]),
       ("POST", "/yes?q=\"", "h.example", 200, 5, "all", "app", False, 1,
        "main", "127.0.0.1", "HTTP/1.1"))
    eq({a["event"] for a in yes["agents"]},
       {"request_head", "request_chunk"})
    eq((no["decided_by"], no["status"], no["upstream"] is None
        or no["attempts"] == 0), ("waf", 403, True))
    eq(bad["status"], 400)
    check(bad["ended_by"] in ("client", "proxy"), bad["ended_by"])
    check(yes["us"]["total"] >= yes["us"]["agents"] >= 0)


def test_metrics(env):
    def handler(ev):
        return block(403) if ev.uri == "/no" else allow()
    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"timeout": "5s"}},
                  {"agents": [{"name": "waf", "request_body": "stream",
                               "response_body": "stream"}]})
    text = d.admin("/metrics").text
    for family in FAMILIES:
        check("# TYPE agentproxyd_%s " % family in text, "no " + family)
    check(d.metrics().all("agent_failures_total", cause="timeout"),
          "series at 0 from the start")
    for i in range(10):
        eq(fetch(d.port, "POST", "/%d" % i, body=b"abc").status, 200)
        eq(fetch(d.port, target="/no").status, 403)
    d.wait_idle()
    m = d.metrics()
    eq(m.get("requests_total", route="all", code_class="2xx"), 10)
    eq(m.get("requests_total", route="all", code_class="4xx"), 10)
    eq(m.get("request_bytes_total"), 30)
    eq(m.get("ended_total", by="agent"), 10)
    eq(m.get("ended_total", by="done"), 10)
    eq(m.get("upstream_requests_total", upstream="app"), 10)
    eq(m.get("request_seconds_count"), 20)
    for event in ("request_head", "request_chunk", "response_head",
                  "response_chunk"):
        asked = m.get("agent_events_total", agent="waf", event=event)
        eq(asked, m.get("agent_decisions_total", agent="waf", event=event),
           event)
        eq(asked, m.get("agent_seconds_count", agent="waf", event=event))
    eq(m.get("agent_events_total", event="request_head"), 20)
    eq((m.get("agent_failures_total"), m.get("agent_abandoned_total")),
       (0, 0))


def test_admin(env):
    env.agent("waf")
    d = env.proxy(env.origin().port, {"waf": {}})
    d.wait_metric(4, "agent_links", agent="waf", state="up")
    eq(d.admin("/livez").body.strip(), b"ok")
    ready = json.loads(d.admin("/readyz").body)
    eq(ready, {"ready": True, "draining": False, "reasons": []})
    a = json.loads(d.admin("/agents").body)
    eq(a["generation"], d.metric("config_generation"))
    waf = a["agents"][0]
    eq((waf["name"], waf["state"], waf["breaker"]),
       ("waf", "healthy", "closed"))
    check({"reason", "in_flight", "queued", "held_bytes"} <= set(waf), waf)
    inst = waf["instances"][0]
    eq((inst["links_up"], inst["links_wanted"], inst["dialect"],
        inst["encoding"], inst["last_error"]), (4, 4, "v2", "json", None))
    eq(d.admin("/nothing").status, 404)
    eq(d.admin("/metrics", "POST").status, 405)
    eq(d.admin("/livez", "HEAD").status, 200)


def test_not_ready(env):
    d = env.proxy(env.origin().port, {"waf": {}}, ready=False)
    r = d.admin("/readyz")
    eq(r.status, 503)
    body = json.loads(r.body)
    eq(body["ready"], False)
    check(any("waf" in reason for reason in body["reasons"]), body)
    eq(d.admin("/livez").status, 200)


def test_reopen_logs(env):
    d = env.proxy(env.origin().port)
    fetch(d.port)
    d.access(1)
    os.rename(env.path("access.log"), env.path("access.log.1"))
    d.proc.send_signal(signal.SIGUSR1)
    wait_for(lambda: os.path.exists(env.path("access.log")), "a new file")
    fetch(d.port)
    d.access(1)


def test_own_log_file(env):
    """log.path and log.level change by reload; USR1 opens the file anew."""
    d = env.proxy(env.origin().port)
    path = env.path("own.log")

    def lines(p=path):
        return open(p).read().splitlines() if os.path.exists(p) else []

    d.config["log"].update(path=path, level="debug")
    d.reload()
    wait_for(lambda: any("event=reload" in x for x in lines()), "the line")
    d.proc.send_signal(signal.SIGHUP)
    wait_for(lambda: "generation=3" in "".join(lines()), "the next")
    os.rename(path, path + ".1")
    d.proc.send_signal(signal.SIGUSR1)
    wait_for(lambda: any(" reopen " in x for x in lines()), "a new file")
    check("generation=3" not in "".join(lines()))
    d.config["log"].update(path=env.path("none/own.log"))
    d.write()
    d.proc.send_signal(signal.SIGHUP)
    d.wait_metric(1, "config_reloads_total", result="refused")
    check("own.log error=" in "".join(lines()))
    d.config["log"].update(path="stderr", level="error")
    d.reload()
    quiet = d.own_log()
    d.config["log"].update(level="info")
    d.reload()
    wait_for(lambda: "generation=5" in d.own_log(), "back on stderr")
    check("generation=4" not in quiet)


def test_log_disk_full(env):
    """/dev/full: lines are lost and counted, requests are not."""
    c = env.config(env.origin().port)
    c["log"].update(path="/dev/full", access={"path": "/dev/full",
                                              "format": "json"})
    d = env.start(c)
    for _ in range(20):
        eq(fetch(d.port).status, 200)
    d.wait_metric(20, "access_log_lost_total")
    check(d.metric("log_lost_total") >= 2)


def test_log_journal_priorities(env):
    """Where stderr is what JOURNAL_STREAM names, lines carry priorities."""
    c = env.config(env.origin().port)
    d = env.start(c)
    check("<6>" not in d.own_log())
    d.stop()
    log = open(env.path("journal"), "wb")
    st = os.fstat(log.fileno())
    c["listeners"][0]["address"] = "127.0.0.1:%d" % env.port()
    p = env.spawn([env.binary("agentproxyd"), "-c", d.file], stderr=log,
                  env=dict(os.environ, JOURNAL_STREAM="%d:%d"
                           % (st.st_dev, st.st_ino)))
    d.write()
    wait_for(lambda: b" ready " in open(log.name, "rb").read(), "the line")
    text = open(log.name).read()
    check(all(x.startswith("<6>20") for x in text.splitlines()), text)
    p.terminate()
    eq(p.wait(15), 0)


def test_log_slow_reader(env):
    """A pipe that nobody reads stalls nobody."""
    r, w = os.pipe()
    c = env.config(env.origin().port)
    c["log"].update(level="debug", access={"path": "off", "format": "json"})
    d = env.start(c)
    d.stop()
    p = env.spawn([env.binary("agentproxyd"), "-c", d.file], stderr=w)
    wait_for(d_ready(d), "ready")
    for i in range(1200):
        p.send_signal(signal.SIGUSR1)
        if i % 20 == 0:
            eq(fetch(d.port).status, 200)
    wait_for(lambda: d.metric("log_lost_total") > 0 or
             p.send_signal(signal.SIGUSR1), "lost lines")
    eq(fetch(d.port).status, 200)
    os.close(w)
    p.terminate()
    eq(p.wait(15), 0)
    os.close(r)


def d_ready(d):
    def ready():
        try:
            return d.admin("/readyz").status == 200
        except OSError:
            return False
    return ready


def test_slow_agent_log(env):
    """Which exchange, and how many more there were."""
    late = []

    def handler(ev):
        if ev.kind != "request_head" or ev.uri == "/fast":
            return allow()
        late.append(ev)
        threading.Timer(0.06, ev.reply, (allow(),)).start()
        return None

    env.agent("waf", handler)
    d = env.proxy(env.origin().port, {"waf": {"slow": "50ms"}})
    fetch(d.port, target="/fast")
    check("agent_slow" not in d.own_log())
    fetch(d.port)
    m = re.search(r" warn agent_slow agent=waf event=request_head "
                  r"correlation_id=(\w+) us=(\d+) queue_us=\d+ cause=none "
                  r"unsaid=0", d.own_log())
    check(m, d.own_log())
    eq(m.group(1), late[0].id)
    check(int(m.group(2)) > 50000)
    raws = [Raw(d.port) for _ in range(20)]
    for r in raws:
        r.request()
    for r in raws:
        eq(r.response().status, 200)
    check(d.own_log().count("agent_slow") < 5)
    d.config["agents"]["waf"]["slow"] = "0"
    before = d.metric("agent_reconnects_total")
    d.reload()
    n = d.own_log().count("agent_slow")
    fetch(d.port)
    eq(d.own_log().count("agent_slow"), n)
    eq(d.metric("agent_reconnects_total"), before)


def test_own_log(env):
    d = env.proxy(env.origin().port)
    d.reload()
    d.stop()
    log = d.own_log()
    for event in ("start", "ready", "reload", "drain", "stop"):
        check(re.search(r"event=%s\b" % event, log) or
              re.search(r" %s\b" % event, log), "no %s in the log" % event)


def test_quiet_connections(env):
    """Quiet clients are parked, and are whole again with the first byte."""
    d = env.proxy(env.origin().port, listener={"timeouts": {"idle": "4s"}})
    talks, leaves, stays = [Raw(d.port) for _ in range(3)]
    for c in (talks, leaves, stays):
        c.request()
        eq(c.response().status, 200)
    # What a sweep does cannot be seen from outside but by time passing.
    time.sleep(2.2)
    eq(d.metric("connections", listener="main"), 3)
    talks.send(b"G")
    time.sleep(0.05)
    talks.send(b"ET /again HTTP/1.1\r\nHost: a\r\n\r\n")
    r = talks.response()
    eq((r.status, r.body), (200, b"GET /again\n"))
    leaves.close()
    d.wait_metric(2, "connections", listener="main")
    eq(stays.sock.recv(1), b"", "the idle time-out is kept")
    eq(d.metric("connections_total", listener="main"), 3)


def test_idle_connections(env):
    """What an idle keep-alive connection costs."""
    import resource
    n = 2000
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20000), hard))
    d = env.proxy(env.fast_origin().port)
    fetch(d.port)
    before = d.rss_kib()
    cs = [Raw(d.port) for _ in range(n)]
    for c in cs:
        c.request()
        eq(c.response().status, 200)
    each = (d.rss_kib() - before) * 1024 / n
    print("%.0f bytes per idle connection" % each)
    if "release" in env.build:
        check(each < 4096, "%.0f bytes per connection" % each)
