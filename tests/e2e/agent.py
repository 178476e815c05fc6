"""An agent for tests, written from the protocol's text and not from our C.

    def handler(ev):            # an Event; returns a reply, or None to hold it
        return allow()
    agent = Agent(path, handler, encoding="msgpack")

A held event is answered later with ev.reply(block(403)). All events are kept
in agent.events; agent.wait(...) waits for one.
"""
import base64
import json
import os
import socket
import struct
import threading

TYPES = {0x10: "request_head", 0x11: "request_chunk", 0x12: "response_head",
         0x13: "response_chunk", 0x14: "complete", 0x17: "configure"}

CHUNK = ["correlation_id", "data", "is_last", "total_size", "chunk_index"]
FIELDS = {
    "request_head": ["metadata", "method", "uri", "headers"],
    "metadata": ["correlation_id", "request_id", "client_ip", "client_port",
                 "server_name", "protocol", "tls_version", "tls_cipher",
                 "route_id", "upstream_id", "timestamp", "traceparent"],
    "request_chunk": CHUNK + ["bytes_received"],
    "response_head": ["correlation_id", "status", "headers"],
    "response_chunk": CHUNK + ["bytes_sent"],
    "complete": ["correlation_id", "status", "duration_ms",
                 "request_body_size", "response_body_size",
                 "upstream_attempts", "error"],
}


# ---- MessagePack ------------------------------------------------------------

def pack(v):
    if v is None:
        return b"\xc0"
    if v is True or v is False:
        return b"\xc3" if v else b"\xc2"
    if isinstance(v, int):
        if 0 <= v < 128:
            return bytes([v])
        return b"\xcf" + struct.pack(">Q", v)
    if isinstance(v, float):
        return b"\xcb" + struct.pack(">d", v)
    if isinstance(v, bytes):
        return b"\xc6" + struct.pack(">I", len(v)) + v
    if isinstance(v, str):
        s = v.encode()
        if len(s) < 32:
            return bytes([0xa0 | len(s)]) + s
        return b"\xdb" + struct.pack(">I", len(s)) + s
    if isinstance(v, (list, tuple)):
        return (b"\xdc" + struct.pack(">H", len(v))
                + b"".join(pack(x) for x in v))
    if isinstance(v, dict):
        return (b"\xde" + struct.pack(">H", len(v))
                + b"".join(pack(k) + pack(x) for k, x in v.items()))
    raise TypeError(type(v))


class Unpacker:
    SCALARS = {0xca: ">f", 0xcb: ">d", 0xcc: ">B", 0xcd: ">H", 0xce: ">I",
               0xcf: ">Q", 0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
    SIZES = {0xc4: ">B", 0xc5: ">H", 0xc6: ">I", 0xd9: ">B", 0xda: ">H",
             0xdb: ">I", 0xdc: ">H", 0xdd: ">I", 0xde: ">H", 0xdf: ">I"}

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, fmt):
        v = struct.unpack_from(fmt, self.data, self.at)[0]
        self.at += struct.calcsize(fmt)
        return v

    def raw(self, n):
        if self.at + n > len(self.data):
            raise ValueError("short")
        self.at += n
        return self.data[self.at - n:self.at]

    def value(self):
        t = self.number(">B")
        if t < 0x80:
            return t
        if t >= 0xe0:
            return t - 256
        if t < 0x90:
            return {self.value(): self.value() for _ in range(t & 15)}
        if t < 0xa0:
            return [self.value() for _ in range(t & 15)]
        if t < 0xc0:
            return self.raw(t & 31).decode()
        if t in (0xc0, 0xc2, 0xc3):
            return {0xc0: None, 0xc2: False, 0xc3: True}[t]
        if t in self.SCALARS:
            return self.number(self.SCALARS[t])
        n = self.number(self.SIZES[t])
        if t <= 0xc6:
            return self.raw(n)
        if t <= 0xdb:
            return self.raw(n).decode()
        if t <= 0xdd:
            return [self.value() for _ in range(n)]
        return {self.value(): self.value() for _ in range(n)}


def unpack(data):
    u = Unpacker(data)
    v = u.value()
    if u.at != len(data):
        raise ValueError("bytes left over")
    return v


def named(kind, v):
    """Array form to map form; exactly as many elements as there are fields."""
    if kind not in FIELDS:
        return v
    if isinstance(v, list):
        if len(v) != len(FIELDS[kind]):
            raise ValueError("%s of %d elements" % (kind, len(v)))
        v = dict(zip(FIELDS[kind], v))
    if kind == "request_head":
        v["metadata"] = named("metadata", v["metadata"])
    return v


# ---- replies ----------------------------------------------------------------

def allow(**more):
    return dict({"decision": "allow"}, **more)


def block(status, body=None, headers=None, **more):
    return dict({"decision": {"block": {"status": status, "body": body,
                                        "headers": headers}}}, **more)


def redirect(url, status=302, **more):
    return dict({"decision": {"redirect": {"url": url, "status": status}}},
                **more)


def set_header(name, value):
    return {"set": {"name": name, "value": value}}


def add_header(name, value):
    return {"add": {"name": name, "value": value}}


def remove_header(name):
    return {"remove": {"name": name}}


def mutation(ev, data):
    """Of the body whose chunk ev is; None passes, b"" drops."""
    key = ev.kind.split("_")[0] + "_body_mutation"
    text = None if data is None else base64.b64encode(data).decode()
    return {key: {"data": text, "chunk_index": ev.payload["chunk_index"]}}


class Event:
    def __init__(self, agent, link, kind, payload):
        self.agent, self.link, self.kind = agent, link, kind
        self.payload = payload
        self.uri = self.method = None
        if kind == "request_head":
            self.meta = payload["metadata"]
            self.id = self.meta["correlation_id"]
            self.headers = payload["headers"]
            self.uri, self.method = payload["uri"], payload["method"]
        else:
            self.id = payload.get("correlation_id")
            self.headers = payload.get("headers")
        self.last = payload.get("is_last")
        data = payload.get("data")
        if isinstance(data, str):
            data = base64.b64decode(data, validate=True)
        self.data = data

    def reply(self, decision):
        if isinstance(decision, bytes):     # a frame of the test's own
            self.link.send_raw(decision)
            return
        out = {"version": 2, "request_headers": [], "response_headers": [],
               "routing_metadata": {}, "needs_more": False,
               "request_body_mutation": None, "response_body_mutation": None,
               "websocket_decision": None}
        out.update(decision)
        audit = {"tags": [], "rule_ids": [], "confidence": None,
                 "reason_codes": []}
        audit.update(decision.get("audit", {}))
        audit["custom"] = {"correlation_id": self.id}
        out["audit"] = audit
        self.link.send(0x20, out)

    def __repr__(self):
        return "<%s %s>" % (self.kind, self.id)


class Link:
    def __init__(self, agent, sock):
        self.agent, self.sock = agent, sock
        self.lock = threading.Lock()
        self.encoding = "json"

    def read_exactly(self, n):
        out = bytearray()
        while len(out) < n:
            got = self.sock.recv(min(n - len(out), 1 << 20))
            if not got:
                return None
            out += got
        return bytes(out)

    def read_frame(self):
        head = self.read_exactly(5)
        if head is None:
            return None, None
        n, kind = struct.unpack(">IB", head)
        return kind, self.read_exactly(n - 1) if n > 1 else b""

    def send_raw(self, data):
        with self.lock:
            try:
                self.sock.sendall(data)
            except OSError:
                pass

    def send(self, kind, value, force_json=False):
        if force_json or self.encoding == "json":
            body = json.dumps(value).encode()
        else:
            body = pack(value)
        self.send_raw(struct.pack(">IB", len(body) + 1, kind) + body)

    def handshake(self):
        kind, body = self.read_frame()
        if kind != 0x01:
            return False
        offer = json.loads(body)["supported_encodings"]
        want = self.agent.encoding
        self.encoding = want if want in offer else "json"
        self.send(0x02, {
            "protocol_version": 2, "success": True, "error": None,
            "encoding": self.encoding,
            "capabilities": {"agent_id": "test", "name": "test",
                             "version": "1", "supported_events": [1],
                             "features": {}, "limits": self.agent.limits}}, True)
        return True

    def run(self):
        try:
            if not self.handshake():
                return
            while True:
                kind, body = self.read_frame()
                if body is None:
                    return
                self.on_frame(kind, body)
        except OSError:
            pass
        except Exception as e:              # seen by the test
            self.agent.errors.append(repr(e))
        finally:
            self.sock.close()
            self.agent.link_gone(self)

    def on_frame(self, kind, body):
        if kind == 0x41:
            self.send_raw(struct.pack(">IB", len(body) + 1, 0x42) + body)
            return
        if kind == 0x40:
            self.agent.add(Event(self.agent, self, "cancel",
                                 json.loads(body)))
            return
        name = TYPES[kind]
        if body[:1] == b"{":
            payload = json.loads(body)
        else:
            payload = named(name, unpack(body))
        ev = Event(self.agent, self, name, payload)
        self.agent.add(ev)
        if name in ("complete", "configure"):
            decision = allow()
        else:
            decision = self.agent.handler(ev)
        if decision is not None:
            ev.reply(decision)


class Agent:
    def __init__(self, path, handler=None, encoding="json", keep=True,
                 limits=None):
        self.path, self.encoding, self.keep = path, encoding, keep
        self.handler = handler or (lambda ev: allow())
        self.limits = limits or {}
        self.events, self.errors, self.links = [], [], []
        self.changed = threading.Condition()
        self.stopped = False
        try:
            os.unlink(path)
        except FileNotFoundError:
            pass
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(128)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            link = Link(self, sock)
            self.links.append(link)
            threading.Thread(target=link.run, daemon=True).start()

    def add(self, ev):
        with self.changed:
            if self.keep:
                self.events.append(ev)
            self.changed.notify_all()

    def link_gone(self, link):
        with self.changed:
            if link in self.links:
                self.links.remove(link)
            self.changed.notify_all()

    def of(self, kind):
        return [e for e in list(self.events) if e.kind == kind]

    def wait(self, what, limit=10):
        """The first event for which what(ev) is true; or of that kind."""
        fn = what if callable(what) else lambda e: e.kind == what
        with self.changed:
            if not self.changed.wait_for(
                    lambda: any(fn(e) for e in self.events), limit):
                raise AssertionError("the agent never got it: %s" % what)
            return next(e for e in self.events if fn(e))

    def stop(self):
        if self.stopped:
            return
        self.stopped = True
        # Wakes the thread first: it would accept for the next socket that
        # gets the same descriptor.
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for link in list(self.links):
            try:
                link.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        try:
            os.unlink(self.path)
        except FileNotFoundError:
            pass


if __name__ == "__main__":
    # python3 agent.py SOCKET [json|msgpack]: allows everything, for tests that
    # kill and stop agents.
    import sys
    import time
    Agent(sys.argv[1], encoding=(sys.argv + ["json"])[2], keep=False)
    while True:
        time.sleep(3600)
