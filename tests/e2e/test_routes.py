"""What routes match, what they change, and what they answer themselves."""
from agent import allow, block, set_header
from lib import Raw, check, eq, fetch


def route(**more):
    return more


def start(env, routes, agents=None, **more):
    o = env.origin()
    c = env.config(o.port, agents, **more)
    c["routes"] = routes
    return o, env.start(c)


def taken(d, n=1):
    return [line["route"] for line in d.access(n)][-1]


def test_header_match(env):
    """Exact values, or any; every one of them; first match wins."""
    o, d = start(env, [
        route(name="both", match={"headers": {"X-A": "1", "X-B": "*"}},
              upstream="app"),
        route(name="one", match={"headers": {"x-a": "1"}}, upstream="app"),
        route(name="beta", match={"path_prefix": "/p", "headers":
                                  {"Cookie": "beta"}}, upstream="app"),
        route(name="rest", upstream="app")])
    n = 0
    for target, headers, want in (
            ("/", [("X-A", "1"), ("X-B", "")], "both"),
            ("/", [("X-A", "1"), ("x-b", "anything")], "both"),
            ("/", [("X-A", "1")], "one"),
            ("/", [("X-A", "0"), ("X-A", "1")], "one"),
            ("/", [("X-A", "1 ")], "one"),
            ("/", [("X-A", "11")], "rest"),
            ("/", [("X-A", "")], "rest"),
            ("/", [("X-B", "1")], "rest"),
            ("/p", [("Cookie", "beta")], "beta"),
            ("/p", [("Cookie", "Beta")], "rest"),
            ("/", [("Cookie", "beta")], "rest")):
        eq(fetch(d.port, target=target, headers=headers).status, 200)
        n += 1
        eq(taken(d, n), want, "%s %r" % (target, headers))


def test_header_match_is_not_forged(env):
    """What only a trusted proxy may say does not choose a route otherwise."""
    routes = [route(name="tls", match={"headers":
                                       {"X-Forwarded-Proto": "https"}},
                    upstream="app"),
              route(name="id", match={"headers": {"X-Request-Id": "*"}},
                    upstream="app"),
              route(name="rest", upstream="app")]
    for trusted, want in (([], "rest"), (["127.0.0.1"], "tls")):
        o, d = start(env, routes, listener={"trusted_proxies": trusted})
        fetch(d.port, headers={"X-Forwarded-Proto": "https"})
        eq(taken(d), want)
        fetch(d.port, headers={"X-Request-Id": "abc"})
        eq(taken(d, 2), "id" if trusted else "rest")
        d.stop()
        open(env.path("access.log"), "w").close()


def test_header_policy(env):
    """Removed, set, added; agents see what is forwarded."""
    a = env.agent("waf", lambda ev: allow(request_headers=[
        set_header("X-Agent", "yes"), set_header("X-Set", "agent")]
        if ev.kind == "request_head" else []))

    def serve(x):
        x.read_body()
        x.answer(200, b"ok", [("Server", "secret"), ("X-Powered-By", "php"),
                              ("X-Frame-Options", "ALLOW"),
                              ("Vary", "Accept")])
    o = env.origin(serve)
    c = env.config(o.port, {"waf": {}}, {
        "request_headers": {"remove": ["X-Debug", "User-Agent"],
                            "set": {"X-Set": "route", "Host": "inner"},
                            "add": {"X-Add": "2"}},
        "response_headers": {"remove": ["server", "X-Powered-By"],
                             "set": {"X-Frame-Options": "DENY"},
                             "add": {"Vary": "Origin"}}})
    c["routes"][0]["agents"] = [{"name": "waf", "response_head": True}]
    d = env.start(c)
    r = fetch(d.port, headers=[("X-Debug", "1"), ("x-debug", "2"),
                               ("User-Agent", "me"), ("X-Set", "a"),
                               ("X-Set", "b"), ("X-Add", "1")])
    seen = o.seen[0]
    eq((seen.all("x-debug"), seen.all("user-agent")), ([], []))
    eq((seen.all("x-set"), seen.all("x-add"), seen.all("x-agent")),
       (["agent"], ["1", "2"], ["yes"]))
    eq(seen.all("host"), ["inner"])
    eq((r.all("server"), r.all("x-powered-by")), ([], []))
    eq((r.all("x-frame-options"), r.all("vary")),
       (["DENY"], ["Accept", "Origin"]))
    head = {k.lower(): v for k, v in
            a.of("request_head")[0].payload["headers"].items()}
    eq((head["x-set"], head["x-add"], "x-debug" in head),
       (["route"], ["1", "2"], False), "the agent saw")
    head = {k.lower(): v for k, v in
            a.of("response_head")[0].payload["headers"].items()}
    eq(head["x-frame-options"], ["DENY"])
    # The request id and framing are out of its reach.
    check(r.get("x-request-id") and r.get("content-length") == "2")


def test_header_policy_retry(env):
    """Once, also where a request is sent again."""
    hang_up = [1]

    def serve(x):
        x.read_body()
        if hang_up and x.target == "/again":
            hang_up.pop()
            return False
        x.answer(200, b"ok")
        return None
    o = env.origin(serve)
    d = env.start(env.config(o.port, route={
        "request_headers": {"add": {"X-Add": "1"}}}))
    fetch(d.port)
    eq(fetch(d.port, target="/again").status, 200)
    eq([x.all("x-add") for x in o.seen], [["1"]] * 3)


def test_respond(env):
    o, d = start(env, [
        route(name="robots", match={"path": "/robots.txt"}, respond={
            "body": "User-agent: *\nDisallow: /\n",
            "headers": {"Content-Type": "text/x-robots",
                        "Cache-Control": "max-age=60"}},
            response_headers={"set": {"X-Set": "1"}}),
        route(name="gone", match={"path": "/gone"}, respond={"status": 410}),
        route(name="empty", match={"path": "/empty"},
              respond={"status": 204}),
        route(name="plain", match={"path": "/plain"},
              respond={"status": 503, "body": "closed"})])
    c = Raw(d.port)
    c.request(target="/robots.txt")
    r = c.response()
    eq((r.status, r.body), (200, b"User-agent: *\nDisallow: /\n"))
    eq((r.get("content-type"), r.get("cache-control"), r.get("x-set")),
       ("text/x-robots", "max-age=60", "1"))
    check(r.get("x-request-id"))
    c.request("HEAD", "/robots.txt")
    r = c.response("HEAD")
    eq((r.status, r.get("content-length"), r.body), (200, "26", b""))
    for target, status, body in (("/gone", 410, b""), ("/empty", 204, b""),
                                 ("/plain", 503, b"closed")):
        c.request(target=target)
        r = c.response()
        eq((r.status, r.body), (status, body), target)
        eq(r.get("content-type"),
           "text/plain; charset=utf-8" if body else None)
    # A body that nobody asks for is read off; the connection may stay.
    eq(fetch(d.port, "POST", "/plain", body=b"x" * 100000).status, 503)
    eq(fetch(d.port, target="/other").status, 404)
    eq(o.seen, [], "nothing is forwarded")
    lines = d.access(7)
    eq([(x["route"], x["status"], x["upstream"], x["server"], x["ended_by"])
        for x in lines[:3]],
       [("robots", 200, None, None, "done"),
        ("robots", 200, None, None, "done"),
        ("gone", 410, None, None, "done")])
    eq(d.metric("requests_total", route="robots", code_class="2xx"), 2)
    eq(d.metric("requests_total", route="gone", code_class="4xx"), 1)
    eq(d.metric("requests_total", route="plain", code_class="5xx"), 2)


def test_redirect(env):
    o, d = start(env, [
        route(match={"path_prefix": "/s/"}, redirect={
            "url": "https://{host}{target}", "status": 308}),
        route(match={"path_prefix": "/f/"}, redirect={
            "url": "https://new.example/x?from={target}"}),
        route(match={"path": "/p"}, redirect={"url": "/q", "status": 303})])
    for target, host, status, want in (
            ("/s/a?b=%20c", "a.example:8080", 308,
             "https://a.example/s/a?b=%20c"),
            ("/s/", "[::1]:80", 308, "https://[::1]/s/"),
            ("/f/a", "b", 302, "https://new.example/x?from=/f/a"),
            ("/p?x", "b", 303, "/q")):
        r = fetch(d.port, target=target, host=host)
        eq((r.status, r.get("location")), (status, want), target)
    eq(fetch(d.port, target="/s/", host=None, version="1.0").status, 400,
       "no host to send it to")
    eq(fetch(d.port, target="/f/", host=None, version="1.0").status, 302)
    eq(o.seen, [])


def test_own_answers_ask_agents(env):
    """A route that answers by itself asks its agents before."""
    def handler(ev):
        if ev.kind == "request_head" and ev.uri == "/blocked":
            return block(418, "no")
        if ev.kind == "request_chunk" and b"bad" in ev.data:
            return block(419, "bad")
        return allow()
    a = env.agent("waf", handler)
    o, d = start(env, [route(
        name="own", agents=[{"name": "waf", "request_body": "hold"}],
        respond={"body": "own"})], {"waf": {}})
    eq(fetch(d.port).body, b"own")
    eq(fetch(d.port, target="/blocked").status, 418)
    eq(fetch(d.port, "POST", "/", body=b"good").body, b"own")
    eq(fetch(d.port, "POST", "/", body=b"a bad body").status, 419)
    eq([line["decided_by"] for line in d.access(4)],
       [None, "waf", None, "waf"])
    eq(len(a.of("request_head")), 4)
    a.stop()
    d.wait_metric(0, "agent_links", agent="waf", state="up")
    eq(fetch(d.port).status, 503, "and fails closed")


def test_own_answer_agent_upstream(env):
    """There is nothing to choose where nothing is forwarded."""
    env.agent("waf", lambda ev: allow(routing_metadata={"upstream": "app"}))
    o, d = start(env, [route(name="own", agents=["waf"], respond={})],
                 {"waf": {}})
    eq(fetch(d.port).status, 502)
    eq(o.seen, [])
