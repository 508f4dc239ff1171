"""A web server on 127.0.0.1 that misbehaves on request.

Each path has a function route(request, nth) that answers its nth request (from 0). What was asked
is kept in `asked` as (path, headers).
"""
import http.server
import socket
import threading


class Request(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        path = self.path.split("?")[0]
        with self.server.guard:
            nth = sum(1 for p, _ in self.server.asked if p == path)
            self.server.asked.append((path, dict(self.headers)))
        route = self.server.routes.get(path)
        try:
            if route:
                route(self, nth)
            else:
                self.reply(404, b"no such thing")
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def cut(self):
        """Ends the connection as a dying network does."""
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def file(self, data, etag='"one"', ranges=True, if_range=True, stop_at=None, pace=None,
             **headers):
        """Serves `data`, or the rest of it that was asked for; stop_at cuts at that byte of
        the file; pace(sent) is called between blocks."""
        start, status = 0, 200
        asked = self.headers.get("Range")
        vouched = self.headers.get("If-Range")
        if asked and ranges and (not if_range or vouched in (None, etag)):
            start = int(asked.split("=")[1].rstrip("-"))
            if start >= len(data):
                self.reply(416, b"", Content_Range=f"bytes */{len(data)}")
                return
            status = 206
        self.send_response(status)
        if etag:
            self.send_header("ETag", etag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        end = len(data) if stop_at is None else min(stop_at, len(data))
        step = 1 << 16
        for at in range(start, end, step):
            self.wfile.write(data[at:min(at + step, end)])
            self.server.sent += min(at + step, end) - at
            if pace:
                pace(at + step - start)
        if end < len(data):
            self.cut()


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, tls=None):
        super().__init__(("127.0.0.1", 0), Request)
        self.routes, self.asked, self.sent = {}, [], 0
        self.guard = threading.Lock()
        self.scheme = "http"
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def handle_error(self, request, address):
        pass

    def url(self, path, host="127.0.0.1"):
        return f"{self.scheme}://{host}:{self.server_address[1]}{path}"

    def ranges(self, path):
        return [h.get("Range") for p, h in self.asked if p == path]

    def close(self):
        self.shutdown()
        self.server_close()
