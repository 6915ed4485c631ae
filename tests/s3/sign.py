"""Requests signed by hand (SigV4), for what SDKs don't send: exact paths, odd headers, each form of a streamed upload."""

import datetime
import hashlib
import hmac
import http.client
import urllib.parse

EMPTY = hashlib.sha256(b"").hexdigest()
UNSIGNED = "UNSIGNED-PAYLOAD"
ALGORITHM = "AWS4-HMAC-SHA256"


def quoted(text, safe="~"):
    """Percent-encoded as SigV4 wants it."""
    return urllib.parse.quote(text, safe=safe)


def path_of(key):
    """A key as it stands in a path: slashes stay, nothing is cleaned."""
    return quoted(key, safe="/~")


def _hmac(key, text):
    return hmac.new(key, text.encode(), hashlib.sha256).digest()


class Signer:
    """Signs for one pair of keys, at one moment."""

    def __init__(self, keys, when=None, region="us-east-1"):
        self.id, self._secret = keys
        when = when or datetime.datetime.now(datetime.timezone.utc)
        self.stamp = when.strftime("%Y%m%dT%H%M%SZ")
        self.scope = f"{self.stamp[:8]}/{region}/s3/aws4_request"
        key = f"AWS4{self._secret}".encode()
        for part in self.scope.split("/"):
            key = _hmac(key, part)
        self._key = key

    def signature(self, method, path, query, headers, signed, payload):
        """Of a request whose path and query are given as they are sent."""
        lines = [f"{name}:{' '.join(str(headers[name]).split())}\n" for name in signed]
        pairs = sorted(f"{quoted(name)}={quoted(value)}" for name, value in query)
        request = [method, path, "&".join(pairs), "".join(lines), ";".join(signed), payload]
        return self._sign(ALGORITHM, hashlib.sha256("\n".join(request).encode()).hexdigest())

    def _sign(self, algorithm, *rest):
        text = "\n".join([algorithm, self.stamp, self.scope, *rest])
        return _hmac(self._key, text).hex()

    def header(self, method, path, query, headers, payload):
        """Adds what a signed request carries to its headers, whose names are lower-case."""
        headers["x-amz-date"] = self.stamp
        headers["x-amz-content-sha256"] = payload
        signed = sorted(headers)
        mark = self.signature(method, path, query, headers, signed, payload)
        headers["authorization"] = (
            f"{ALGORITHM} Credential={self.id}/{self.scope}, SignedHeaders={';'.join(signed)}, Signature={mark}"
        )
        return mark

    def presign(self, method, path, query, headers, expires, payload=UNSIGNED):
        """The query of a URL that is good for so many seconds, with these headers."""
        signed = sorted(headers)
        query = [
            *query,
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", f"{self.id}/{self.scope}"),
            ("X-Amz-Date", self.stamp),
            ("X-Amz-Expires", str(expires)),
            ("X-Amz-SignedHeaders", ";".join(signed)),
        ]
        mark = self.signature(method, path, query, headers, signed, payload)
        return [*query, ("X-Amz-Signature", mark)]

    def chunks(self, seed, pieces, trailers=None):
        """The body of a streamed upload whose every chunk is signed, and its trailers if it has any."""
        body, mark = b"", seed
        for piece in [*pieces, b""]:
            mark = self._sign(f"{ALGORITHM}-PAYLOAD", mark, EMPTY, hashlib.sha256(piece).hexdigest())
            if piece or trailers is None:
                end = b"\r\n"
            else:
                end = b""
            body += f"{len(piece):x};chunk-signature={mark}\r\n".encode() + piece + end
        if trailers is not None:
            told = "".join(f"{name}:{value}\n" for name, value in trailers.items())
            mark = self._sign(f"{ALGORITHM}-TRAILER", mark, hashlib.sha256(told.encode()).hexdigest())
            lines = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
            body += f"{lines}x-amz-trailer-signature:{mark}\r\n\r\n".encode()
        return body


def chunks(pieces, trailers):
    """The body of a streamed upload whose chunks are not signed, and its trailers."""
    body = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces)
    lines = "".join(f"{name}:{value}\r\n" for name, value in trailers.items())
    return body + f"0\r\n{lines}\r\n".encode()


def send(url, method, target, headers, body=b"", timeout=60):
    """Sends a request as it is given, and returns status, headers (names in lower case) and body."""
    address = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=timeout)
    try:
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, str(value).encode())
        connection.endheaders(body or None)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
