"""The agent that ships: what it blocks, and its reload."""
import signal
import subprocess

from lib import check, eq, fetch, wait_for

RULES = """path /admin
client 192.0.2.0/24
header user-agent badbot
body union select
set-request X-Checked-By denylist
set-response X-Checked-By denylist
"""


def start(env, encoding):
    with open(env.path("rules"), "w") as f:
        f.write(RULES)
    agent = env.spawn([env.binary("agents/denylist"), "-s",
                       env.path("deny.sock"), "-f", env.path("rules")],
                      stderr=subprocess.DEVNULL)
    o = env.origin()
    d = env.proxy(
        o.port, {"deny": {"timeout": "5s", "encoding": encoding}},
        {"agents": [{"name": "deny", "request_body": "hold",
                     "response_body": "hold"}]},
        listener={"trusted_proxies": ["127.0.0.0/8"]})
    return agent, o, d


def rules(env, encoding):
    agent, o, d = start(env, encoding)
    r = fetch(d.port)
    eq((r.status, r.get("x-checked-by"), o.seen[0].get("x-checked-by")),
       (200, "denylist", "denylist"))
    for more in ({"target": "/admin/x"}, {"target": "/%61dmin"},
                 {"target": "/a/../admin"}, {"target": "/./admin"},
                 {"headers": {"User-Agent": "a BadBot 1"}},
                 {"headers": {"X-Forwarded-For": "192.0.2.9"}},
                 {"method": "POST", "body": b"x UNION SELECT y"},
                 {"method": "POST", "body": b"a" * 65530 + b"union select"}):
        r = fetch(d.port, **more)
        eq(r.status, 403, str(more)[:80])
    eq(len(o.seen), 1)
    check(d.access(3)[1]["agents"][0]["rules"], "no rule in the log")
    # A response that holds the text (the upstream echoes the target).
    eq(fetch(d.port, target="/?q=fine").status, 200)
    with open(env.path("rules"), "w") as f:
        f.write("path /other\n")
    agent.send_signal(signal.SIGHUP)
    wait_for(lambda: fetch(d.port, target="/other").status == 403, "new rules")
    eq(fetch(d.port, target="/admin").status, 200)
    with open(env.path("rules"), "w") as f:
        f.write("nonsense\n")
    agent.send_signal(signal.SIGHUP)    # bad: the old rules stay
    for _ in range(20):
        eq(fetch(d.port, target="/other").status, 403)
    agent.terminate()
    eq(agent.wait(10), 0)


def test_denylist_json(env):
    rules(env, "json")


def test_denylist_msgpack(env):
    rules(env, "msgpack")
