"""The blob API, asked what cases ask of S3; its answers in the same parts."""

import json
import secrets
import urllib.parse

from answer import Answer, body_of
from leg import filled
from sign import send

# What the blob API does not tell: it speaks of objects, and not of how S3 keeps them.
UNTOLD = ("header x-amz-", "header location")


class Blob:
    """One node's blob API under a name."""

    def __init__(self, name, url, token):
        self.name, self.url, self.token = name, url.rstrip("/"), token
        self.host = urllib.parse.urlsplit(url).netloc

    def ask(self, method, route, query, headers=None, body=b""):
        """Sends a request; status, headers (names in lower case) and body."""
        sent = {"host": self.host, "authorization": f"Bearer {self.token}", **(headers or {})}
        if method in ("PUT", "POST") or body:
            sent["content-length"] = len(body)
        return send(self.url, method, f"{route}?{urllib.parse.urlencode(query, quote_via=urllib.parse.quote)}", sent, body)

    def read(self, leg, key, method="GET", headers=None):
        """Reads an object; the answer in parts."""
        answer = Answer(f"{method} object")
        status, told, data = self.ask(method, "/get", {"bucket": leg.bucket, "key": key}, headers)
        answer.source = told.get("x-falcon-cache")
        answer.parts = parts(leg, status, told, data, code=json.loads(data).get("code") if status >= 400 and data else None)
        return answer

    def upload(self, bucket, folder, files):
        """Stores files, given as (name, bytes, content type), in one form."""
        mark = secrets.token_hex(8)
        body = b"".join(
            f'--{mark}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\nContent-Type: {kind}\r\n\r\n'.encode()
            + data + b"\r\n"
            for name, data, kind in files
        )
        headers = {"content-type": f"multipart/form-data; boundary={mark}"}
        return self.ask("POST", "/upload", {"bucket": bucket, "path": folder}, headers, body + f"--{mark}--\r\n".encode())


def parts(leg, status, headers, data, code=None):
    """What both say of an object: of a refusal the status and the code."""
    found = {"status": status, "code": code}
    if status < 400:
        found.update({
            part: value for part, value in leg.normal.headers(headers, status < 300).items() if not part.startswith(UNTOLD)
        })
    if status < 300:
        found["body"] = body_of(data)
    return filled(found)
