#!/usr/bin/env python3
"""app.py PORT LOG: a small shop with pages, forms, JSON and uploads, for the
WAF's test. Each request is a JSON line in LOG, with its body. /tour is a page
whose script makes a visit by itself and then says `tour: ok`."""
import base64
import email
import email.policy
import hashlib
import html
import http.cookies
import http.server
import json
import os
import sys
import urllib.parse

HERE = os.path.dirname(os.path.abspath(__file__))
ITEMS = [{"id": i, "name": n, "price": p} for i, (n, p) in enumerate((
    ("Teapot", 19.5), ("Cup & saucer", 7.25), ("Tea, 100 g", 4.0),
    ("O'Brien's biscuits", 3.1), ("Strainer <fine>", 2.8)))]
LOGO = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGA"
    "WjR9awAAAABJRU5ErkJggg==")
PAGE = """<!doctype html><html><head><meta charset="utf-8"><title>%s</title>
<link rel="stylesheet" href="/style.css"><script src="/app.js" defer></script>
</head><body><img src="/logo.png" alt=""><nav><a href="/">Home</a>
<a href="/search?q=tea&amp;page=1">Search</a> <a href="/comment">Comments</a>
<a href="/login">Log in</a> <a href="/upload">Upload</a></nav>%s</body></html>
"""
FORMS = {
    "/login": '<form method="post"><input name="user"><input name="password"'
              ' type="password"><button>Log in</button></form>',
    "/comment": '<form method="post"><input name="name"><textarea name="text">'
                '</textarea><button>Send</button></form>',
    "/upload": '<form method="post" enctype="multipart/form-data"><input '
               'name="title"><input type="file" name="file"><button>Send'
               '</button></form>',
}


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    log_file = None

    def log_message(self, *_):
        pass

    def answer(self, data, status=200, kind="text/html; charset=utf-8", **h):
        if isinstance(data, str):
            data = data.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for n, v in h.items():
            self.send_header(n.replace("_", "-"), v)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
        self.record(status)

    def record(self, status):
        self.log_file.write(json.dumps({
            "method": self.command, "target": self.path, "status": status,
            "headers": self.headers.items(),
            "body": base64.b64encode(self.body).decode()}) + "\n")
        self.log_file.flush()

    def read_body(self):
        self.body = b""
        if self.headers.get("transfer-encoding"):
            while True:
                n = int(self.rfile.readline(), 16)
                self.body += self.rfile.read(n)
                self.rfile.readline()
                if not n:
                    return
        self.body = self.rfile.read(int(self.headers.get("content-length", 0)))

    def page(self, title, text):
        self.answer(PAGE % (title, text))

    def do_GET(self):
        self.read_body()
        url = urllib.parse.urlsplit(self.path)
        args = urllib.parse.parse_qs(url.query)
        if url.path == "/":
            self.page("Shop", "".join(
                '<p><a href="/item/%d">%s</a> %.2f</p>' % (
                    i["id"], html.escape(i["name"]), i["price"])
                for i in ITEMS))
        elif url.path == "/search":
            q = args.get("q", [""])[0]
            found = [i for i in ITEMS if q.lower() in i["name"].lower()]
            self.page("Search", "<p>%d for %s</p>" % (len(found),
                                                      html.escape(q)))
        elif url.path.startswith("/item/"):
            self.page("Item", html.escape(url.path[6:]))
        elif url.path in FORMS:
            self.page(url.path[1:], FORMS[url.path])
        elif url.path == "/account":
            c = http.cookies.SimpleCookie(self.headers.get("cookie", ""))
            self.page("Account", "session" in c and "Welcome" or "Who?")
        elif url.path == "/api/items":
            self.answer(json.dumps(ITEMS), kind="application/json")
        elif url.path == "/style.css":
            self.answer("body { font: 16px sans-serif }\n", kind="text/css")
        elif url.path == "/logo.png":
            self.answer(LOGO, kind="image/png")
        elif url.path in ("/app.js", "/tour.js"):
            with open(os.path.join(HERE, "tour.js"), "rb") as f:
                self.answer(f.read() if url.path == "/tour.js"
                            else "document.body.className = 'on';\n",
                            kind="text/javascript")
        elif url.path == "/tour":
            self.answer('<!doctype html><title>Tour</title><p id="said">'
                        'running</p><script src="/tour.js"></script>')
        else:
            self.answer("not found\n", 404, "text/plain")

    do_HEAD = do_GET

    def do_POST(self):
        self.read_body()
        kind = self.headers.get("content-type", "")
        if self.path == "/login":
            form = urllib.parse.parse_qs(self.body.decode())
            token = hashlib.sha256(form["user"][0].encode()).hexdigest()
            self.answer("", 303, Location="/account",
                        Set_Cookie="session=%s; HttpOnly; Path=/" % token)
        elif self.path == "/comment":
            form = urllib.parse.parse_qs(self.body.decode())
            self.page("Thanks", html.escape(form["text"][0]))
        elif self.path == "/api/items":
            self.answer(json.dumps(json.loads(self.body)), 201,
                        "application/json")
        elif self.path == "/upload" and kind.startswith("multipart/"):
            m = email.message_from_bytes(
                b"Content-Type: " + kind.encode() + b"\r\n\r\n" + self.body,
                policy=email.policy.HTTP)
            sums = [hashlib.sha256(p.get_payload(decode=True)).hexdigest()
                    for p in m.iter_parts() if p.get_filename()]
            self.answer(json.dumps(sums), kind="application/json")
        elif self.path == "/raw":
            self.answer(hashlib.sha256(self.body).hexdigest(),
                        kind="text/plain")
        else:
            self.answer("not found\n", 404, "text/plain")


if __name__ == "__main__":
    Handler.log_file = open(sys.argv[2], "a")
    http.server.ThreadingHTTPServer.request_queue_size = 128
    http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])),
                                    Handler).serve_forever()
