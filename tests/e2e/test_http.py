"""Ordinary proxying: HTTP/1.1 in both directions, without agents."""
import json
import os
import shutil
import subprocess

from lib import Raw, Skip, check, eq, fetch, wait_for


def test_proxy_get(env):
    d = env.proxy(env.nginx('location / { return 200 "hello\\n"; }'))
    r = fetch(d.port)
    eq((r.status, r.body), (200, b"hello\n"))
    check(r.get("x-request-id"), "no X-Request-Id")
    line = d.access()[0]
    eq((line["status"], line["ended_by"]), (200, "done"))


def test_nginx_files(env):
    """Files of many sizes through a real server and a real client."""
    if not shutil.which("curl"):
        raise Skip("no curl")
    os.mkdir(env.path("www"))
    sizes = (0, 1, 4095, 65536, 300000, 3000000)
    for n in sizes:
        with open(env.path("www/f%d" % n), "wb") as f:
            f.write(os.urandom(n))
    d = env.proxy(env.nginx("root %s;" % env.path("www")))
    argv = ["curl", "-sS", "--fail", "-Z", "--parallel-max", "3"]
    for n in sizes:
        argv += ["-o", env.path("got%d" % n),
                 "http://127.0.0.1:%d/f%d" % (d.port, n)]
    subprocess.run(argv, check=True, timeout=60)
    for n in sizes:
        with open(env.path("got%d" % n), "rb") as a, \
                open(env.path("www/f%d" % n), "rb") as b:
            check(a.read() == b.read(), "file of %d differs" % n)


def test_wrk(env):
    if not shutil.which("wrk"):
        raise Skip("no wrk")
    o = env.fast_origin()
    d = env.proxy(o.port)
    out = subprocess.run(
        ["wrk", "-t1", "-c16", "-d1s", "http://127.0.0.1:%d/" % d.port],
        capture_output=True, text=True, timeout=60, check=True).stdout
    check("requests in" in out, out)
    check("Non-2xx" not in out and "Socket errors" not in out, out)


def test_keep_alive(env):
    o = env.origin()
    d = env.proxy(o.port)
    c = Raw(d.port)
    for i in range(50):
        c.request("POST" if i % 2 else "GET", "/%d" % i,
                  body=b"x" * i if i % 2 else None)
        r = c.response()
        eq(r.status, 200)
        check(b"/%d\n" % i in r.body, "another's answer")
        eq(r.get("connection"), None)
    eq(o.connections, 1, "connections to the upstream")


def test_connection_close(env):
    d = env.proxy(env.origin().port)
    c = Raw(d.port)
    c.request(headers={"Connection": "close"})
    eq(c.response().status, 200)
    c.closed()


def test_pipelining(env):
    d = env.proxy(env.origin().port)
    c = Raw(d.port)
    n = 40
    c.send("".join("GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % i
                   if i % 3 else
                   "POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"
                   "abc" % i for i in range(n)))
    for i in range(n):
        check(b"/%d\n" % i in c.response().body, "out of order at %d" % i)


def test_every_split(env):
    """One request, cut in two at each byte."""
    d = env.proxy(env.origin().port)
    text = (b"POST /split?x=1 HTTP/1.1\r\nHost: a.example\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;e=1\r\nde\r\n"
            b"0\r\nX-T: 1\r\n\r\n")
    c = Raw(d.port)
    for at in range(1, len(text)):
        c.send(text[:at])
        c.send(text[at:])
        eq(c.response().body, b"POST /split?x=1\nabcde", "cut at %d" % at)


def test_chunked_request(env):
    o = env.origin()
    d = env.proxy(o.port)
    c = Raw(d.port)
    c.request("POST", "/c", {"Transfer-Encoding": "chunked"},
              b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n")
    eq(c.response().body, b"POST /c\nhello world")
    eq(o.seen[0].get("content-length"), None)


def test_chunked_response(env):
    def serve(x):
        x.read_body()
        x.answer(200, b"z" * 100000, chunked=True)
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    for _ in range(3):
        c.request()
        r = c.response()
        eq((r.body, r.get("transfer-encoding")), (b"z" * 100000, "chunked"))


def test_trailers(env):
    def serve(x):
        x.read_body()
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
               "Trailer: X-Sum\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\n\r\n")
    o = env.origin(serve)
    d = env.proxy(o.port)
    c = Raw(d.port)
    c.request("POST", "/", {"Transfer-Encoding": "chunked",
                            "TE": "trailers", "Connection": "TE"},
              b"1\r\na\r\n0\r\nX-Check: 9\r\n\r\n")
    r = c.response()
    eq((r.body, r.trailers), (b"ok", [("X-Sum", "7")]))
    eq(o.seen[0].request_trailers, [("X-Check", "9")], "request trailers")


def test_head_and_bodyless(env):
    def serve(x):
        x.read_body()
        status = int(x.target[1:])
        if x.method == "HEAD":
            x.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")
        else:
            x.answer(status, headers=[("ETag", '"a"')])
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.request("HEAD", "/200")
    r = c.response("HEAD")
    eq((r.status, r.get("content-length"), r.body), (200, "1234", b""))
    for status in (204, 304, 200):
        c.request("GET", "/%d" % status)
        r = c.response()
        eq((r.status, r.body, r.get("etag")), (status, b"", '"a"'))
        eq(r.get("transfer-encoding"), None)


def test_http_10(env):
    def serve(x):
        x.read_body()
        x.answer(200, b"body", chunked=True)
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.request(version="1.0", host=None)
    r = c.response()
    eq((r.status, r.body, r.get("transfer-encoding")), (200, b"body", None))
    c.closed()


def test_http_10_without_host(env):
    """It goes on as HTTP/1.1, which must have one: agents see it, too."""
    a = env.agent("waf")
    o = env.origin()
    d = env.proxy(o.port, {"waf": {}})
    c = Raw(d.port)
    c.request(version="1.0", host=None)
    eq(c.response().status, 200)
    eq((o.seen[0].version, o.seen[0].all("host")), ("HTTP/1.1", ["app"]))
    eq(a.of("request_head")[0].headers["host"], ["app"])
    eq(o.seen[0].get("x-forwarded-host"), None)
    # A strict server takes it.
    n = env.proxy(env.nginx("location / { return 200 $host; }"))
    c = Raw(n.port)
    c.request(version="1.0", host=None)
    r = c.response()
    eq((r.status, r.body), (200, b"app"))


def test_http_10_keep_alive(env):
    d = env.proxy(env.origin().port)
    c = Raw(d.port)
    for _ in range(2):
        c.request(version="1.0", headers={"Connection": "keep-alive"})
        r = c.response()
        eq((r.status, r.get("connection", "").lower()), (200, "keep-alive"))


def test_upstream_closes(env):
    """A body that ends with the connection; the next request has another."""
    def serve(x):
        x.read_body()
        x.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")
        return False
    o = env.origin(serve)
    d = env.proxy(o.port)
    c = Raw(d.port)
    for _ in range(3):
        c.request()
        eq(c.response().body, b"until the end")
    eq(o.connections, 3)


def test_expect_continue(env):
    """Without agents Expect is the upstream's business."""
    def serve(x):
        eq(x.get("expect"), "100-continue")
        if x.target == "/no":
            x.answer(417)
            return False
        x.send("HTTP/1.1 100 Continue\r\n\r\n")
        x.answer(200, x.read_body())
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    head = "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n" \
           "Expect: 100-continue\r\n\r\n"
    c.send(head % "/yes")
    eq(c.response(final=False).status, 100)
    c.send("data")
    eq(c.response().body, b"data")
    c.send(head % "/no")
    r = c.response(final=False)
    eq((r.status, r.get("connection")), (417, "close"))


def test_informational(env):
    def serve(x):
        x.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
        x.answer(200, b"ok")
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.request()
    r = c.response(final=False)
    eq((r.status, r.get("link")), (103, "</a>"))
    eq(c.response().body, b"ok")


def test_absolute_form_and_asterisk(env):
    o = env.origin()
    d = env.proxy(o.port)
    c = Raw(d.port)
    c.request(target="http://abs.example/p?q=1", host="abs.example")
    eq(c.response().status, 200)
    eq((o.seen[0].target, o.seen[0].get("host")), ("/p?q=1", "abs.example"))
    c.request("OPTIONS", "*")
    eq(c.response().status, 200)
    eq((o.seen[1].method, o.seen[1].target), ("OPTIONS", "*"))


def test_upgrade_tunnel(env):
    def serve(x):
        if x.get("upgrade") == "websocket":
            x.send("HTTP/1.1 101 Switching Protocols\r\n"
                   "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            x.exactly(4)
            x.send(b"pong")
            try:
                x.fill()
            except EOFError:
                pass
            return False
        x.answer(200, repr(x.headers).lower().encode())
    o = env.origin(serve)
    d = env.proxy(o.port)
    c = Raw(d.port)
    c.request(headers={"Connection": "Upgrade", "Upgrade": "websocket"})
    r = c.response()
    eq((r.status, r.get("upgrade"), r.get("connection").lower()),
       (101, "websocket", "upgrade"))
    eq(c.exactly(5), b"hello")
    c.send(b"ping")
    eq(c.exactly(4), b"pong")
    c.close()
    # h2c would go past every agent; it is not let through.
    c = Raw(d.port)
    c.request(headers={"Connection": "Upgrade, HTTP2-Settings",
                       "Upgrade": "h2c", "HTTP2-Settings": "AAAA"})
    check(b"h2c" not in c.response().body, "h2c was forwarded")
    d.wait_idle()


def test_unasked_101_is_502(env):
    def serve(x):
        x.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
               "Upgrade: websocket\r\n\r\n")
    d = env.proxy(env.origin(serve).port)
    eq(fetch(d.port).status, 502)


def test_101_to_something_else_is_502(env):
    """Only to a protocol that was offered, so that none gets past the route's
    list by an upstream's word."""
    def serve(x):
        x.send("HTTP/1.1 101 Switching Protocols\r\n%s\r\n" %
               x.get("x-lines").replace("|", "\r\n"))
        return False
    d = env.proxy(env.origin(serve).port)
    for lines, status in [
            ("Connection: Upgrade|Upgrade: WebSocket|", 101),
            ("Connection: Upgrade|Upgrade: h2c|", 502),
            ("Connection: Upgrade|Upgrade: websocket, h2c|", 502),
            ("Connection: Upgrade|", 502), ("Upgrade: websocket|", 502),
            ("", 502)]:
        r = fetch(d.port, headers={
            "Connection": "Upgrade", "Upgrade": "h2c, websocket",
            "X-Lines": lines})
        eq(r.status, status, lines)


def test_hop_by_hop(env):
    def serve(x):
        x.read_body()
        x.answer(200, repr(x.headers).lower().encode(), [
            ("Connection", "X-Private"), ("X-Private", "1"),
            ("Keep-Alive", "timeout=5"), ("X-Public", "2")])
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.request(headers=[("Connection", "keep-alive, X-Mine"),
                       ("X-Mine", "secret-1"), ("Keep-Alive", "1"),
                       ("Proxy-Connection", "close"), ("X-Other", "stays")])
    r = c.response()
    for word in (b"x-mine", b"secret-1", b"proxy-connection"):
        check(word not in r.body, "%s was forwarded" % word)
    check(b"stays" in r.body)
    eq((r.get("x-private"), r.get("keep-alive"), r.get("x-public")),
       (None, None, "2"))


def test_forwarded_fields(env):
    o = env.origin()
    d = env.proxy(o.port)
    fetch(d.port, headers={"X-Forwarded-For": "6.6.6.6",
                           "X-Forwarded-Proto": "gopher",
                           "X-Forwarded-Host": "evil",
                           "X-Request-Id": "chosen"}, host="real.example")
    x = o.seen[0]
    eq(x.all("x-forwarded-for"), ["127.0.0.1"])
    eq(x.all("x-forwarded-proto"), ["http"])
    eq(x.all("x-forwarded-host"), ["real.example"])
    check(x.get("via", "").startswith("1.1 "), "Via: %s" % x.get("via"))
    check(x.get("x-request-id") not in (None, "chosen"), "request id kept")


def test_trusted_proxy(env):
    o = env.origin()
    d = env.proxy(o.port, listener={"trusted_proxies": ["127.0.0.0/8"]})
    r = fetch(d.port, headers={"X-Forwarded-For": "192.0.2.7",
                               "X-Forwarded-Proto": "https",
                               "X-Request-Id": "chosen-1"})
    x = o.seen[0]
    check(x.get("x-forwarded-for").replace(" ", "")
          == "192.0.2.7,127.0.0.1", x.get("x-forwarded-for"))
    eq(x.get("x-forwarded-proto"), "https")
    eq((x.get("x-request-id"), r.get("x-request-id")), ("chosen-1",) * 2)
    line = d.access()[0]
    eq((line["client"], line["request_id"]), ("192.0.2.7", "chosen-1"))


def test_trusted_proxy_reloaded(env):
    """Whom a reload takes out is not believed any more, and the other way
    round, also on connections that are open."""
    o = env.origin()
    d = env.proxy(o.port)
    c = Raw(d.port)

    def client(networks):
        d.config["listeners"][0]["trusted_proxies"] = networks
        d.reload()
        c.request(headers={"X-Forwarded-For": "192.0.2.1"})
        eq(c.response().status, 200)
        return o.seen[-1].get("x-forwarded-for")
    for _ in range(2):
        eq(client([]), "127.0.0.1")
        eq(client(["127.0.0.0/8"]), "192.0.2.1, 127.0.0.1")


def test_routes(env):
    a = env.origin(lambda x: x.answer(200, b"a"))
    b = env.origin(lambda x: x.answer(200, b"b"))
    c = env.config(a.port)
    c["upstreams"]["other"] = {"servers": ["127.0.0.1:%d" % b.port]}
    c["routes"] = [
        {"match": {"path": "/exact"}, "upstream": "other"},
        {"match": {"host": "*.b.example"}, "upstream": "other"},
        {"match": {"path_prefix": "/api/", "methods": ["POST"]},
         "upstream": "other"},
        {"match": {"host": "a.example"}, "upstream": "app"},
    ]
    d = env.start(c)
    for method, host, target, want in (
            ("GET", "a.example", "/", b"a"), ("GET", "A.Example.:80", "/", b"a"),
            ("GET", "a.example", "/exact", b"b"),
            ("GET", "a.example", "/exact?q", b"b"),
            ("GET", "a.example", "/x/../exact", b"b"),
            ("GET", "a.example", "/%65xact", b"b"),
            ("GET", "x.b.example", "/", b"b"), ("GET", "b.example", "/", None),
            ("POST", "a.example", "/api/x", b"b"),
            ("GET", "a.example", "/api/x", b"a"), ("GET", "no", "/", None)):
        r = fetch(d.port, method, target, host=host)
        if want is None:
            eq(r.status, 404, host + target)
        else:
            eq(r.body, want, method + " " + host + target)


def test_raw_target_is_forwarded(env):
    o = env.origin()
    d = env.proxy(o.port)
    target = "/a/./b/%7Efoo/../c?x=%20&y=//"
    eq(fetch(d.port, target=target).status, 200)
    eq(o.seen[0].target, target)


def test_ambiguous_path(env):
    """No spelling reaches a service past its agents."""
    o = env.origin()
    c = env.config(o.port)
    c["upstreams"]["safe"] = c["upstreams"]["app"]
    c["routes"] = [{"match": {"path_prefix": "/admin/"}, "upstream": "safe"},
                   {"upstream": "app"}]
    d = env.start(c)
    for target in ("/%2fadmin/x", "/x%2f..%2fadmin/y", "//admin/x",
                   "/admin%2fx", "/admin%5cx", "/a\\..\\admin\\x"):
        eq(fetch(d.port, target=target).status, 400, target)
    for target in ("/%00", "/a%zz", "/a%2"):
        eq(fetch(d.port, target=target).status, 400, target)
    eq(o.seen, [])


def test_balance_and_retry(env):
    a, b = env.origin(), env.origin()
    d = env.proxy([a.port, b.port])
    for _ in range(10):
        eq(fetch(d.port).status, 200)
    eq((len(a.seen), len(b.seen)), (5, 5))
    # Nobody listens at one of them: connect is tried at the other.
    d2 = env.proxy([env.port(), a.port])
    for _ in range(6):
        eq(fetch(d2.port).status, 200)


def test_stale_connection(env):
    """A kept connection is dead at its reuse: GET again, POST never."""
    hang_up = []

    def serve(x):
        x.read_body()
        if hang_up:
            hang_up.pop()
            return False        # takes the request and closes
        x.answer(200, b"ok")
    o = env.origin(serve)
    d = env.proxy(o.port)
    eq(fetch(d.port).status, 200)
    hang_up.append(1)
    eq(fetch(d.port).status, 200, "GET once more on a fresh connection")
    eq(len(o.seen), 3)
    hang_up.append(1)
    eq(fetch(d.port, "POST", "/", body=b"x").status, 502, "POST never again")
    eq(len(o.seen), 4)
    hang_up.append(1)           # a fresh connection: no second try
    eq(fetch(d.port).status, 502)
    eq(len(o.seen), 5)


def test_bad_upstreams(env):
    answers = [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: y\r\n fold\r\n\r\n",
        b"HTTP/1.1 200 OK\nX: y\n\n",
        b"HTTP/1.1 999999 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1000000 + b"\r\n\r\n",
        b"",
    ]

    def serve(x):
        x.read_body()
        x.send(answers[int(x.target[1:])])
        return False
    d = env.proxy(env.origin(serve).port)
    for i in range(len(answers)):
        r = fetch(d.port, "POST", "/%d" % i, body=b"")
        eq(r.status, 502, repr(answers[i][:60]))
    d.wait_idle()


def test_upstream_cut_is_seen(env):
    """A response that ends early: the client can tell."""
    def serve(x):
        x.read_body()
        if x.target == "/chunked":
            x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "5\r\nhello\r\n")
        elif x.target == "/bad":
            x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                   "5\r\nhello\r\nzz\r\n")
        else:
            x.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
        return False
    d = env.proxy(env.origin(serve).port)
    for target in ("/length", "/chunked", "/bad"):
        c = Raw(d.port)
        c.request(target=target)
        try:
            r = c.response()
        except (EOFError, ConnectionResetError):
            continue
        raise AssertionError("%s ended as if complete: %r" % (target, r.body))


def test_no_upstream(env):
    port = env.port()
    d = env.proxy(port)
    r = fetch(d.port, headers={"Accept": "application/json"})
    eq(r.status, 502)
    check(b"request_id" in r.body, r.body)
    check(r.get("x-request-id"), "no X-Request-Id")
    line = d.access()[0]
    eq((line["status"], line["server"], line["attempts"]),
       (502, "127.0.0.1:%d" % port, 1))


def test_refused_as_any(env):
    """What is refused before it is judged knows who asks, and how."""
    d = env.proxy(env.port(), listener={"trusted_proxies": ["127.0.0.0/8"]},
                  route={"match": {"path": "/only"}})
    asks = {"Accept": "application/json", "X-Request-Id": "mine",
            "X-Forwarded-For": "192.0.2.9"}
    for target, status, why in (("/none", 404, "Not Found"),
                                ("/%00", 400, "Bad Request")):
        r = fetch(d.port, target=target, headers=asks)
        eq(r.status, status)
        eq(json.loads(r.body), {"error": why, "request_id": "mine"})
        eq(r.get("x-request-id"), "mine")
    for line in d.access(2):
        eq((line["client"], line["request_id"]), ("192.0.2.9", "mine"))


def test_early_response(env):
    """An answer before the request is complete starts at once."""
    def serve(x):
        x.answer(403, b"enough")
        try:
            while True:
                x.fill()
                x.buf = b""
        except (EOFError, OSError):
            return False
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
    r = c.response()
    eq((r.status, r.body, r.get("connection")), (403, b"enough", "close"))
    d.wait_idle()


def test_client_gone(env):
    gone = []

    def serve(x):
        try:
            x.fill()
        except (EOFError, OSError):
            gone.append(1)
        return False
    d = env.proxy(env.origin(serve).port)
    c = Raw(d.port)
    c.request()
    wait_for(lambda: d.metric("exchanges_in_flight") == 1, "the exchange")
    c.close(hard=True)
    wait_for(lambda: gone, "the upstream is let go")
    line = d.access()[0]
    eq((line["status"], line["ended_by"]), (499, "client"))


def test_half_close(env):
    """FIN after a complete request is answered, then closed."""
    d = env.proxy(env.origin().port)
    c = Raw(d.port)
    c.request()
    c.sock.shutdown(1)
    eq(c.response().status, 200)
    c.closed()
    c = Raw(d.port)     # FIN inside a body
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    c.sock.shutdown(1)
    eq(c.response().status, 400)
