"""The admin port: its methods, and clients that mean it harm."""
import os

from lib import Raw, check, eq, wait_for


def test_admin_methods(env):
    d = env.proxy(env.origin().port)
    for path, status in (("/livez", 200), ("/", 200), ("/nope", 404)):
        for method in ("GET", "HEAD"):
            eq(d.admin(path, method).status, status, method + path)
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH",
                       "PROPFIND", "M-SEARCH", "FOO", "get"):
            r = d.admin(path, method)
            eq((r.status, r.get("allow")), (405, "GET, HEAD"), method + path)
    # A body of a method that nobody knows is no second request.
    c = Raw(d.admin_port)
    c.request("FOO", "/livez", body=b"GET /livez HTTP/1.1\r\n\r\n")
    eq(c.response().status, 405)
    check(c.closed())


def fds(d):
    return len(os.listdir("/proc/%d/fd" % d.proc.pid))


def test_admin_many_clients(env):
    """Hundreds that say half a request, or nothing: others are served, and no
    more of them are kept than there is room for."""
    d = env.proxy(env.origin().port)
    keep = Raw(d.admin_port)
    before = fds(d)
    slow = []
    for i in range(300):
        c = Raw(d.admin_port)
        if i % 2:
            c.send("GET /livez HTTP/1.1\r\nX: ")
        slow.append(c)
        if i % 20 == 0:
            # Who asks is not quiet.
            keep.request(target="/livez")
            eq(keep.response().status, 200)
    eq(d.admin("/readyz").status, 200)
    check(fds(d) <= before + 70, "%d descriptors more" % (fds(d) - before))
    check(slow[0].closed())
    for c in slow:
        c.close()
    wait_for(lambda: fds(d) <= before + 2, "all are gone")
    keep.request(target="/livez")
    eq(keep.response().status, 200)


def test_admin_slow_reader(env):
    """One that asks for much and reads nothing costs no more than its
    answers."""
    d = env.proxy(env.origin().port)
    c = Raw(d.admin_port, rcvbuf=4096)
    c.sock.settimeout(1)
    before = d.rss_kib()
    try:
        for _ in range(20000):
            c.send("GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    except OSError:
        pass
    eq(d.admin("/livez").status, 200)
    check(d.rss_kib() - before < 20000, "%d KiB more" % (d.rss_kib() - before))
