"""Endpoints, and a case's way through one of them."""

import hashlib
import http.client
import urllib.parse

import boto3
import botocore.config
import botocore.exceptions

from answer import VERSIONS, Answer, Normal, body_of, code_of, xml_of
from sign import EMPTY, Signer, path_of, quoted, send

SOURCES = {"memory", "peer", "origin", "revalidated", "stale", "bypass"}
# What carries an object's bytes, or stands for it.
OBJECT_READS = {"GetObject", "HeadObject"}


def filled(parts):
    """Without what is empty."""
    return {part: value for part, value in parts.items() if value not in (None, "")}


def client(url, keys, **config):
    """The SDK with nothing changed but the endpoint, and no second try that would hide a first."""
    settings = {"retries": {"total_max_attempts": 1}, "s3": {"addressing_style": "path"}, "max_pool_connections": 32}
    return boto3.client(
        "s3",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id=keys[0],
        aws_secret_access_key=keys[1],
        config=botocore.config.Config(**(settings | config)),
    )


class Endpoint:
    """One endpoint under a name."""

    def __init__(self, name, url, keys, domain=None):
        self.name, self.url, self.keys, self.domain = name, url.rstrip("/"), keys, domain
        self.host = urllib.parse.urlsplit(url).netloc
        self.s3 = client(url, keys)


class Leg:
    """A case on its way through one endpoint. What it asks is recorded, to be compared with the direct way."""

    def __init__(self, suite, endpoint, prefix, own, seen=None):
        self.suite, self.endpoint, self.direct, self.bucket = suite, endpoint, suite.direct, suite.bucket
        self.prefix, self.own, self.seen = prefix, own, seen
        self.block = suite.block
        self.answers = []
        self.normal = Normal(prefix, own)

    @property
    def is_direct(self):
        return self.endpoint is self.direct

    def key(self, name="object"):
        return self.prefix + name

    def put(self, body=b"hello", key=None, **more):
        """Stores directly, unrecorded: what a case begins with."""
        return self.direct.s3.put_object(Bucket=self.bucket, Key=key or self.key(), Body=body, **more)

    def call(self, operation, endpoint=None, **given):
        """Calls through the SDK."""
        endpoint = endpoint or self.endpoint
        answer, parsed = self._ask(endpoint, operation, given)
        self.record(answer, endpoint)
        return parsed

    def _ask(self, endpoint, operation, given):
        given.setdefault("Bucket", self.bucket)
        method = getattr(endpoint.s3, operation)
        name = endpoint.s3.meta.method_to_api_mapping[operation]
        answer = Answer(name)
        try:
            try:
                parsed = method(**given)
            except botocore.exceptions.ConnectionClosedError:
                # An S3 that refuses a body without reading it hangs up, now and then on the next request. An endpoint may not.
                if endpoint is not self.direct:
                    raise
                parsed = method(**given)
            data = parsed["Body"].read() if "Body" in parsed else None
        except botocore.exceptions.ParamValidationError:
            raise
        except botocore.exceptions.ClientError as error:
            parsed, data = error.response, None
            answer.parts["code"] = parsed["Error"]["Code"]
        except (botocore.exceptions.BotoCoreError, OSError) as error:
            answer.parts["exception"] = type(error).__name__
            return answer, {}
        self.normal.learn("upload", parsed.get("UploadId"))
        for member in VERSIONS:
            self.normal.learn("version", parsed.get(member))
        meta = parsed["ResponseMetadata"]
        answer.source = meta["HTTPHeaders"].get("x-falcon-cache")
        answer.parts["status"] = meta["HTTPStatusCode"]
        whole = name in OBJECT_READS and meta["HTTPStatusCode"] < 300
        answer.parts.update(self.normal.headers(meta["HTTPHeaders"], whole))
        if data is not None:
            answer.parts["body"] = body_of(data)
        elif "Error" not in parsed:
            self._members(endpoint, name, parsed, answer)
        return answer, parsed

    def _members(self, endpoint, name, parsed, answer):
        """Adds what the body says, without what headers said already."""
        shape = endpoint.s3.meta.service_model.operation_model(name).output_shape
        for member, inner in (shape.members if shape else {}).items():
            if member in parsed and "location" not in inner.serialization:
                value = parsed[member]
                if member == "Location":
                    value = urllib.parse.unquote(urllib.parse.urlsplit(value).path)
                answer.parts[f"body {member}"] = self.normal.value(value)

    def raw(self, method, key=None, query=(), headers=None, body=b"", sign="header", payload=None, virtual=False, **more):
        """Sends what is given and nothing else: signed in the header, in the query, or not at all.

        `key` None means the bucket. `virtual`: the bucket goes into the host where this endpoint has a domain."""
        path = "/" if virtual and not self.is_direct else f"/{self.bucket}" + ("/" if key is not None else "")
        path = more.get("path") or path + path_of(key or "")
        host = f"{self.bucket}.{self.endpoint.domain}" if virtual and not self.is_direct else self.endpoint.host
        sent = {"host": host, **{name.lower(): value for name, value in (headers or {}).items()}}
        query = list(query)
        signer = Signer(more.get("keys") or self.endpoint.keys, more.get("when"))
        if sign == "header":
            payload = payload or (hashlib.sha256(body).hexdigest() if body else EMPTY)
            mark = signer.header(method, path, query, sent, payload)
            if "stream" in more:
                body = more["stream"](signer, mark)
        elif sign == "query":
            signed = {name: sent[name] for name in ("host", *more.get("signed", ()))}
            query = signer.presign(more.get("signed_as", method), path, query, signed, more.get("expires", 300))
        if "tamper" in more:
            path, query = more["tamper"](path, query)
        text = "&".join(f"{quoted(name)}={quoted(value)}" if value is not None else quoted(name) for name, value in query)
        if method in ("PUT", "POST") or body:
            sent.setdefault("content-length", len(body))
        for name in more.get("without", ()):
            sent.pop(name, None)
        label = f"{method} {more.get('about', '')}".strip()
        return self._send(label, method, path + (f"?{text}" if text else ""), sent, body, key)

    def url(self, method, url):
        """Asks for a URL that somebody else made."""
        parts = urllib.parse.urlsplit(url)
        return self._send(f"{method} URL", method, f"{parts.path}?{parts.query}", {"host": parts.netloc}, b"", self.key())

    def _send(self, label, method, target, sent, body, key):
        answer = Answer(label)
        try:
            status, headers, data = send(self.endpoint.url, method, target, sent, body)
        except (OSError, http.client.HTTPException) as error:
            answer.parts["exception"] = type(error).__name__
        else:
            whole = key is not None and method in ("GET", "HEAD") and status < 300
            answer.parts["status"] = status
            answer.parts.update(self.normal.headers(headers, whole))
            answer.source = headers.get("x-falcon-cache")
            if status >= 300 and code_of(data):
                answer.parts["code"] = code_of(data)
            elif data and "xml" in headers.get("content-type", "") and not (whole and "?" not in target):
                answer.parts["body"] = xml_of(data, self.normal)
            elif status < 300 or not data:
                answer.parts["body"] = body_of(data)
            self.record(answer, self.endpoint)
            return status, headers, data
        self.record(answer, self.endpoint)
        return None, {}, b""

    def record(self, answer, endpoint, asked=True):
        """Keeps an answer to be compared; `asked`: it must say where it came from."""
        answer.parts = filled(answer.parts)
        if asked and self.suite.falcon and endpoint is not self.direct and answer.source not in SOURCES:
            answer.parts["header x-falcon-cache"] = f"{answer.source!r}, which is none of the known"
        self.answers.append(answer)

    def shown(self, key=None, **given):
        """What is there now: a direct read, and on the way through an endpoint also a read at each endpoint, which must be the same."""
        given["Key"] = key or self.key()
        direct, parsed = self._ask(self.direct, "get_object", dict(given))
        direct.call = "then GetObject"
        self.record(direct, self.direct)
        if not self.is_direct:
            told, found = {}, direct.parts.get("status") == 200
            for endpoint in self.suite.endpoints:
                answer, _ = self._ask(endpoint, "get_object", dict(given))
                answer.parts = filled(answer.parts)
                for part, here, there in direct.differences(answer):
                    told[f"{part} at {endpoint.name}"] = f"{there}, and directly {here}"
            for endpoint in self.suite.blobs if given.keys() <= {"Bucket", "Key"} else []:
                answer = endpoint.read(self, given["Key"])
                for part in ("status", "body", "header etag", "header last-modified") if found else ("status",):
                    here, there = direct.parts.get(part), answer.parts.get(part)
                    if here != there:
                        told[f"{part} at {endpoint.name}"] = f"{there}, and directly {here}"
            direct.parts.update(told)
        return parsed
