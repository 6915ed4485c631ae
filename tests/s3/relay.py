"""A relay in front of an endpoint that sees which ranges of objects are asked for, and changes nothing."""

import http.client
import http.server
import re
import threading
import urllib.parse


class Relay:
    """Runs while it is entered. `ranges` are the answered ones, as (first, last)."""

    def __init__(self, endpoint):
        self._target = urllib.parse.urlsplit(endpoint).netloc
        self.ranges = []

    def __enter__(self):
        relay = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                relay.pass_on(self)

            do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

            def log_message(self, *_):
                """Nothing: what it saw is in `ranges`."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def pass_on(self, asked):
        body = asked.rfile.read(int(asked.headers.get("content-length") or 0))
        connection = http.client.HTTPConnection(self._target, timeout=60)
        try:
            connection.putrequest(asked.command, asked.path, skip_host=True, skip_accept_encoding=True)
            for name, value in asked.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        self._see(asked, answer, len(data))
        asked.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                asked.send_header(name, value)
        asked.send_header("content-length", answer.getheader("content-length") or len(data) if asked.command == "HEAD" else len(data))
        asked.end_headers()
        asked.wfile.write(data)

    def _see(self, asked, answer, size):
        if asked.command != "GET":
            return
        if found := re.match(r"bytes (\d+)-(\d+)/", answer.getheader("content-range") or ""):
            self.ranges.append((int(found[1]), int(found[2])))
        elif answer.status == 200 and "?" not in asked.path and size:
            self.ranges.append((0, size - 1))
