"""Streaming is real, and costs constant memory."""
import os
import threading
import time
import zlib

from agent import allow
from lib import Raw, check, eq, wait_for

FULL = os.environ.get("E2E_FULL") == "1"
SIZE = (1 << 30) if FULL else (64 << 20)
PATTERN = bytes((i * 167 + (i >> 3)) & 255 for i in range(65521))


def pattern_crc(n):
    crc = 0
    for at in range(0, n, 65521):
        crc = zlib.crc32(PATTERN[:min(65521, n - at)], crc)
    return crc


def streaming(env, direction, origin):
    a = env.agent("waf")
    d = env.proxy(origin, {"waf": {"timeout": "30s"}},
                  {"agents": [{"name": "waf", direction: "stream"}]})
    return a, d


def test_stream_request(env):
    """The client sends a chunk only when the upstream has the one before."""
    got = []

    def serve(x):
        while True:
            data = x.chunk()
            if not data:
                break
            got.append(data)
        x.trailers()
        x.answer(200, b"%d" % len(got))
    a, d = streaming(env, "request_body", env.origin(serve).port)
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    sent = b""
    for i in range(40):
        data = b"chunk %d;" % i * (1 + 200 * (i % 3))
        sent += data
        c.send(b"%x\r\n%s\r\n" % (len(data), data))
        wait_for(lambda: b"".join(got) == sent,
                 "chunk %d at the upstream" % i)
    c.send("0\r\n\r\n")
    eq(c.response().status, 200)
    events = a.of("request_chunk")
    eq(b"".join(e.data for e in events), sent)
    eq([e.payload["chunk_index"] for e in events], list(range(len(events))))
    eq([e.last for e in events], [False] * (len(events) - 1) + [True])


def test_stream_response(env):
    """The upstream sends a chunk only when the client has the one before."""
    got = []

    def serve(x):
        x.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(40):
            x.send(b"4\r\n%04d\r\n" % i)
            wait_for(lambda: len(b"".join(got)) == 4 * (i + 1),
                     "chunk %d at the client" % i)
        x.send("0\r\n\r\n")
    o = env.origin(serve)
    a, d = streaming(env, "response_body", o.port)
    c = Raw(d.port)
    c.request()
    eq(c.head().status, 200)
    while True:
        data = c.chunk()
        if not data:
            break
        got.append(data)
    c.trailers()
    eq(b"".join(got), b"".join(b"%04d" % i for i in range(40)))
    eq(b"".join(e.data for e in a.of("response_chunk")), b"".join(got))
    eq(o.errors, [])


def test_stream_both_at_once(env):
    """Echo: each chunk comes back before the next is sent."""
    a = env.agent("waf")
    o = env.fast_origin()
    d = env.proxy(o.port, {"waf": {"timeout": "30s"}}, {"agents": [
        {"name": "waf", "request_body": "stream",
         "response_body": "stream"}]})
    c = Raw(d.port)
    c.send("POST /stream HTTP/1.1\r\nHost: a\r\n"
           "Transfer-Encoding: chunked\r\n\r\n")
    for i in range(40):
        c.send(b"4\r\n%04d\r\n" % i)
        if i == 0:      # a head waits for the verdict on the first chunk
            eq(c.head().status, 200)
        eq(c.chunk(), b"%04d" % i)
    c.send("0\r\n\r\n")
    eq(c.chunk(), b"")


def test_judged_before_forwarded(env):
    """A chunk in question is nowhere at the upstream."""
    got, held = [], []

    def serve(x):
        while True:
            data = x.chunk()
            if not data:
                break
            got.append(data)
        x.trailers()
        x.answer(200)

    def handler(ev):
        if ev.kind == "request_head":
            return allow()
        held.append(ev)
    env.agent("waf", handler)
    d = env.proxy(env.origin(serve).port, {"waf": {"timeout": "30s"}},
                  {"agents": [{"name": "waf", "request_body": "stream"}]})
    c = Raw(d.port)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(5):
        c.send(b"4\r\n%04d\r\n" % i)
        wait_for(lambda: len(held) == i + 1, "the agent is asked")
        eq(len(b"".join(got)), 4 * i, "forwarded before the verdict")
        held[i].reply(allow())
        wait_for(lambda: len(b"".join(got)) == 4 * (i + 1), "forwarded")
    c.send("0\r\n\r\n")
    wait_for(lambda: len(held) == 6, "the last chunk")
    held[5].reply(allow())
    eq(c.response().status, 200)


class Peak:
    """The daemon's memory: start, and the highest that was seen."""

    def __init__(self, d):
        self.d, self.start, self.on = d, d.rss_kib(), True
        self.high = self.start
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while self.on:
            self.high = max(self.high, self.d.rss_kib())
            time.sleep(0.01)

    def check(self, env, limit_kib=6 * 1024):
        self.on = False
        self.thread.join()
        grown = self.high - self.start
        print("rss: %d KiB at start, +%d KiB" % (self.start, grown))
        if "asan" not in env.build and "tsan" not in env.build:
            check(grown <= limit_kib, "grew by %d KiB" % grown)


def digesting(state):
    def handler(ev):
        if ev.data is not None:
            state[0] = zlib.crc32(ev.data, state[0])
            state[1] += len(ev.data)
        return allow()
    return handler


def slow_part(total):
    """Pace of a reader: 1 MiB/s for the first 2 MiB, then free."""
    if total < 2 << 20:
        time.sleep(1 / 16)


def test_memory_upload(env):
    seen, got = [0, 0], [0, 0]

    def serve(x):
        left = int(x.get("content-length"))
        while left:
            slow_part(got[1])
            data = x.buf or x.sock.recv(65536)
            x.buf = b""
            got[0] = zlib.crc32(data, got[0])
            got[1] += len(data)
            left -= len(data)
        x.answer(200, b"%08x" % got[0])
    a = env.agent("waf", digesting(seen))
    a.keep = False
    d = env.proxy(env.origin(serve).port, {"waf": {"timeout": "60s"}},
                  {"agents": [{"name": "waf", "request_body": "stream"}]},
                  listener={"timeouts": {"body": "120s", "send": "120s"}})
    peak = Peak(d)
    c = Raw(d.port, 300)
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SIZE)
    for at in range(0, SIZE, 65521):
        c.send(PATTERN[:min(65521, SIZE - at)])
    want = pattern_crc(SIZE)
    eq(c.response().body, b"%08x" % want)
    eq((seen, got), ([want, SIZE], [want, SIZE]))
    peak.check(env)


def test_memory_download(env):
    seen, got = [0, 0], [0, 0]
    a = env.agent("waf", digesting(seen))
    a.keep = False
    d = env.proxy(env.fast_origin().port, {"waf": {"timeout": "60s"}},
                  {"agents": [{"name": "waf", "response_body": "stream"}]},
                  listener={"timeouts": {"body": "120s", "send": "120s"}})
    peak = Peak(d)
    c = Raw(d.port, 300)
    c.request(target="/bytes/%d" % SIZE)
    eq(c.head().get("content-length"), str(SIZE))
    while got[1] < SIZE:
        slow_part(got[1])
        data = c.buf or c.sock.recv(65536)
        c.buf = b""
        check(data, "cut after %d" % got[1])
        got[0] = zlib.crc32(data, got[0])
        got[1] += len(data)
    want = pattern_crc(SIZE)
    eq((seen, got), ([want, SIZE], [want, SIZE]))
    peak.check(env)


def test_drip(env):
    """A client that drips does not make an event per byte, nor is it held
    up: all is there in the end."""
    a, d = streaming(env, "request_body", env.origin().port)
    c = Raw(d.port)
    n = 2000
    c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % n)
    for i in range(n):
        c.send(b"%d" % (i % 10))
    r = c.response()
    eq(r.body[7:], b"".join(b"%d" % (i % 10) for i in range(n)))
    check(len(a.of("request_chunk")) < n // 4,
          "%d events for %d bytes" % (len(a.of("request_chunk")), n))
