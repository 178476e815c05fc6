"""Requests that must not get through, limits, time-outs."""
import signal
import time

from lib import Raw, check, eq, fetch, wait_for

H = "Host: a\r\n"
SMUGGLING = [
    ("TE and CL", "POST / HTTP/1.1\r\n" + H +
     "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("two CL", "POST / HTTP/1.1\r\n" + H +
     "Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"),
    ("CL list", "POST / HTTP/1.1\r\n" + H +
     "Content-Length: 5, 6\r\n\r\nabcde"),
    ("CL +5", "POST / HTTP/1.1\r\n" + H + "Content-Length: +5\r\n\r\nabcde"),
    ("CL -1", "POST / HTTP/1.1\r\n" + H + "Content-Length: -1\r\n\r\n"),
    ("CL 0x5", "POST / HTTP/1.1\r\n" + H + "Content-Length: 0x5\r\n\r\nabcde"),
    ("CL empty", "POST / HTTP/1.1\r\n" + H + "Content-Length: \r\n\r\n"),
    ("CL huge", "POST / HTTP/1.1\r\n" + H +
     "Content-Length: 99999999999999999999999\r\n\r\n"),
    ("chunked twice", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked not last", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"),
    ("xchunked", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("TE with VT", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n"),
    ("TE in 1.0", "POST / HTTP/1.0\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("blank before colon", "GET / HTTP/1.1\r\n" + H + "X : 1\r\n\r\n"),
    ("TE blank colon", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
    ("fold", "GET / HTTP/1.1\r\n" + H + "X: 1\r\n 2\r\n\r\n"),
    ("first line fold", "GET / HTTP/1.1\r\n " + H + "\r\n"),
    ("bare LF", "GET / HTTP/1.1\n" + H + "\r\n"),
    ("bare LF in fields", "GET / HTTP/1.1\r\n" + H + "X: 1\nY: 2\r\n\r\n"),
    ("bare CR in value", "GET / HTTP/1.1\r\n" + H + "X: 1\rY: 2\r\n\r\n"),
    ("NUL in value", "GET / HTTP/1.1\r\n" + H + "X: a\0b\r\n\r\n"),
    ("NUL in target", "GET /\0 HTTP/1.1\r\n" + H + "\r\n"),
    ("no name", "GET / HTTP/1.1\r\n" + H + ": 1\r\n\r\n"),
    ("no colon", "GET / HTTP/1.1\r\n" + H + "nonsense\r\n\r\n"),
    ("no Host", "GET / HTTP/1.1\r\n\r\n"),
    ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    ("Host list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    ("Host with path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    ("Host with user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"),
    ("target and Host", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n"),
    ("two blanks", "GET  / HTTP/1.1\r\n" + H + "\r\n"),
    ("tab for a blank", "GET\t/ HTTP/1.1\r\n" + H + "\r\n"),
    ("no version", "GET /\r\n" + H + "\r\n"),
    ("version 2.0", "GET / HTTP/2.0\r\n" + H + "\r\n"),
    ("version 1.10", "GET / HTTP/1.10\r\n" + H + "\r\n"),
    ("version http/1.1", "GET / http/1.1\r\n" + H + "\r\n"),
    ("h2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ("bad method", "GE(T / HTTP/1.1\r\n" + H + "\r\n"),
    ("asterisk for GET", "GET * HTTP/1.1\r\n" + H + "\r\n"),
    ("no slash", "GET a HTTP/1.1\r\n" + H + "\r\n"),
    ("TLS hello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    ("chunk size g", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\ng\r\nabc\r\n0\r\n\r\n"),
    ("chunk size 0x3", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n"),
    ("chunk size -1", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n"),
    ("chunk size of 17 digits", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n10000000000000003\r\nabc\r\n"),
    ("chunk too long", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n"),
    ("chunk with LF", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n"),
    ("empty chunk size", "POST / HTTP/1.1\r\n" + H +
     "Transfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n"),
]


def whole(x):
    return x.method, x.target


def test_smuggling(env):
    """400 (501 for a coding that nobody knows), closed, and nothing of it or behind it reaches the upstream."""
    o = env.origin()
    d = env.proxy(o.port)
    bad = []
    for name, text in SMUGGLING:
        c = Raw(d.port)
        c.send(text.encode("latin-1")
               + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
        try:
            r = c.response()
            if r.status != (501 if name == "xchunked" else 400):
                bad.append("%s: %d" % (name, r.status))
            c.closed()
        except (EOFError, ConnectionResetError, AssertionError) as e:
            bad.append("%s: %r" % (name, e))
        c.close()
    check(not bad, "\n".join(bad))
    d.wait_idle()
    for x in o.seen:
        # A head with a bad body may have gone; its end never.
        check(x.target != "/smuggled" and not hasattr(x, "body"),
              "forwarded: %s" % (whole(x),))
    check(d.metric("bad_requests_total") >= len(SMUGGLING))
    eq(fetch(d.port).status, 200, "still alive")


def test_unknown_coding_is_501(env):
    d = env.proxy(env.origin().port)
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked"
           "\r\n\r\n0\r\n\r\n")
    eq(c.response().status, 501)


def test_connect_is_405(env):
    """And what follows it, which is for a tunnel, is no request."""
    o = env.origin()
    d = env.proxy(o.port)
    c = Raw(d.port)
    c.send("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n"
           "GET /inside HTTP/1.1\r\nHost: a\r\n\r\n")
    r = c.response()
    eq((r.status, r.get("connection")), (405, "close"))
    c.closed()
    eq(o.seen, [])


def test_limits(env):
    o = env.origin()
    d = env.proxy(o.port, listener={"limits": {
        "header_bytes": "4KiB", "headers": 20, "target_bytes": 256,
        "body": 1000}})
    eq(fetch(d.port, headers={"X": "a" * 5000}).status, 431)
    eq(fetch(d.port, headers=[("X%d" % i, "1") for i in range(30)]).status,
       431)
    eq(fetch(d.port, target="/" + "a" * 300).status, 414)
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n")
    eq(c.response().status, 413)
    eq(o.seen, [])
    c = Raw(d.port)     # the running total, where no length is said
    c.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
           + b"%x\r\n" % 1200 + b"a" * 1200 + b"\r\n0\r\n\r\n")
    eq(c.response().status, 413)
    eq(fetch(d.port, "POST", "/", body=b"a" * 1000).status, 200)


def test_refused_heads_in_the_log(env):
    """Who asked for what is known, also where it was refused."""
    d = env.proxy(env.origin().port, listener={
        "limits": {"target_bytes": "64"}, "timeouts": {"header": "500ms"}})
    cases = [
        ("GET /a HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400, "GET", "/a"),
        ("GET /b HTTP/1.1\r\nA: 1\r\nB: 2\r\n\r\n", 400, "GET", "/b"),
        ("PUT /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: x\r\n\r\n",
         501, "PUT", "/c"),
        ("GET /%s HTTP/1.1\r\n" % ("d" * 99), 414, "GET", "/" + "d" * 99),
        ("GET /e HTTP/1.1\r\n" + "A: 1\r\n" * 101 + "\r\n", 431, "GET",
         "/e"),
        ("GET http:/f HTTP/1.1\r\n", 400, "GET", "http:/f"),
        ("GET /g HTTP/1.1\r\nHost: ", 408, "GET", "/g"),
        ("GET /half", 408, None, None),
        ("\x16\x03", 400, None, None),
    ]
    for i, (data, status, method, target) in enumerate(cases):
        c = Raw(d.port)
        c.send(data)
        eq(c.response().status, status, data)
        line = d.access(i + 1)[i]
        eq((line["status"], line["method"], line["target"]),
           (status, method, target), data)


def test_endless_head(env):
    """A head without end is refused at its limit, not kept."""
    d = env.proxy(env.origin().port)
    c = Raw(d.port)
    try:
        c.send(b"GET / HTTP/1.1\r\n")
        for i in range(2000):
            c.send(b"X-%d: %s\r\n" % (i, b"a" * 100))
    except OSError:
        pass
    try:
        eq(c.response().status, 431)
    except ConnectionResetError:
        pass
    eq(fetch(d.port).status, 200)


def test_timeouts(env):
    def serve(x):
        if x.target == "/slow":
            try:
                x.fill()
            except (EOFError, OSError):
                return False
        x.read_body()
        x.answer(200, b"ok")
    c = env.config(env.origin(serve).port, listener={"timeouts": {
        "header": "300ms", "body": "300ms", "idle": "300ms"}})
    c["upstreams"]["app"]["timeouts"] = {"response": "300ms"}
    d = env.start(c)
    a = Raw(d.port)                 # idle: closed without a word
    b = Raw(d.port)                 # inside a head
    b.send("GET / HTTP/1.1\r\nHo")
    e = Raw(d.port)                 # inside a body
    e.send("POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
    f = Raw(d.port)                 # waiting for the upstream
    f.request(target="/slow")
    a.closed()
    eq(b.response().status, 408)
    eq(e.response().status, 408)
    eq(f.response().status, 504)
    d.wait_idle()
    by = {line["target"]: line for line in d.access(3) if line["target"]}
    check(by["/slow"]["ended_by"] in ("timeout", "upstream"))


def test_idle_is_not_longer_when_parked(env):
    """A connection that has been quiet is closed before a head that began at
    the same time is given up, half a second later."""
    d = env.proxy(env.origin().port, listener={
        "timeouts": {"idle": "2s", "header": "2500ms"}})
    for used in (False, True):
        quiet, slow = Raw(d.port), Raw(d.port)
        if used:
            quiet.request()
            eq(quiet.response().status, 200)
        slow.send("GET / HT")
        quiet.closed()
        slow.sock.setblocking(False)
        try:
            raise AssertionError("given up: %r" % slow.sock.recv(9))
        except BlockingIOError:
            slow.close()


def test_idle_is_over_while_it_had_no_turn(env):
    """Parked clients' requests that came in time are answered, though the
    daemon comes to read them only after the idle time-out."""
    d = env.proxy(env.origin().port, listener={"timeouts": {"idle": "4s"}})
    clients = [Raw(d.port) for _ in range(300)]     # more than one turn reads
    for c in clients:
        c.request()
        eq(c.response().status, 200)
    time.sleep(1.6)                                 # they are parked
    d.proc.send_signal(signal.SIGSTOP)
    for c in clients:
        c.request()
    time.sleep(2.5)                                 # and over
    d.proc.send_signal(signal.SIGCONT)
    for c in clients:
        eq(c.response().status, 200)


def test_max_connections(env):
    """Who comes too many is refused, but for those that are quiet: the
    quietest goes."""
    d = env.proxy(env.origin().port, listener={"max_connections": 5})
    wait_for(lambda: d.metric("connections", listener="main") == 0,
             "the harness's own connections are gone")
    kept = [Raw(d.port) for _ in range(5)]
    for c in kept:
        c.request()
        eq(c.response().status, 200)
    try:
        c = Raw(d.port)
        c.request()
        eq(c.response().status, 503)
    except (EOFError, OSError):
        pass        # closed at once is an answer too
    check(d.metric("connections_refused_total", listener="main") >= 1)
    refused = d.metric("connections_refused_total", listener="main")
    for c in kept[1:]:
        c.request()                 # the first one stays quiet for longest
        eq(c.response().status, 200)

    def let_in():
        try:
            return fetch(d.port).status == 200
        except (EOFError, OSError):
            return False
    wait_for(let_in, "a quiet one makes way")
    kept[0].closed()
    check(d.metric("connections_refused_total", listener="main") >= refused)
    for c in kept[1:]:
        c.request()
        eq(c.response().status, 200, "the others stay")
    for c in kept:
        c.close()
    wait_for(lambda: d.metric("connections", listener="main") == 0, "room")
    eq(fetch(d.port).status, 200)
