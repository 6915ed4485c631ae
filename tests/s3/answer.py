"""What S3 answered, in the parts in which two endpoints must agree."""

import datetime
import hashlib
import re
import urllib.parse
import xml.etree.ElementTree as tree
from dataclasses import dataclass, field

# Of headers, what a client can act upon; and whatever begins with `x-amz-`, but for names of the request itself.
NAMED = {
    *("etag", "last-modified", "content-type", "content-length", "content-range", "content-encoding"),
    *("content-disposition", "content-language", "cache-control", "expires", "accept-ranges", "location"),
}
OF_THE_REQUEST = {"x-amz-request-id", "x-amz-id-2"}


VERSIONS = {"VersionId", "DeleteMarkerVersionId", "CopySourceVersionId"}


@dataclass
class Answer:
    """One answer: the call that it answers, and the parts to compare by name."""

    call: str
    parts: dict = field(default_factory=dict)
    source: str | None = None

    def differences(self, other):
        """What the other has otherwise, as (part, here, there)."""
        for part in sorted(self.parts.keys() | other.parts.keys()):
            here, there = self.parts.get(part), other.parts.get(part)
            if here != there:
                yield part, here, there


class Normal:
    """Makes answers comparable that speak of different keys, moments, uploads and versions."""

    def __init__(self, prefix, own):
        self._names = {prefix: "@/", prefix.replace("/", "%2F"): "@%2F"} if own else {}
        self._own = own

    def learn(self, kind, name):
        """Takes a name that S3 made up for what it calls the same everywhere, like an upload's id."""
        if name and name != "null" and name not in self._names:
            number = sum(value.startswith(f"<{kind}") for value in self._names.values())
            self._names[name] = f"<{kind} {number}>"

    def text(self, text):
        for name, stands_for in self._names.items():
            text = text.replace(name, stands_for)
        return text

    def value(self, value):
        """Of a parsed body."""
        if isinstance(value, dict):
            for member in VERSIONS & value.keys():
                self.learn("version", value[member])
            return {name: self.value(inner) for name, inner in value.items()}
        if isinstance(value, list):
            return [self.value(inner) for inner in value]
        if isinstance(value, datetime.datetime):
            return "<time>" if self._own else value.isoformat()
        return self.text(value) if isinstance(value, str) else value

    def headers(self, headers, whole):
        """Those to compare. The length is told apart only where it is an object's: other bodies are compared parsed."""
        kept = {}
        for name, value in headers.items():
            name = name.lower()
            if name in OF_THE_REQUEST or not (name in NAMED or name.startswith("x-amz-")):
                continue
            if name == "content-length" and not whole:
                continue
            if name == "last-modified" and self._own:
                value = "<time>"
            if name == "location":
                value = urllib.parse.urlsplit(value).path
            kept[f"header {name}"] = self.text(value)
        return kept


def body_of(data):
    """Bytes, short enough to be printed."""
    start = data[:24].decode("latin-1")
    return f"{len(data)} bytes, sha256 {hashlib.sha256(data).hexdigest()[:16]}, {start!r}…" if data else "empty"


def xml_of(data, normal):
    """A parsed XML body as nested pairs; of an error, which endpoints word as they like, nothing but its name."""
    try:
        root = tree.fromstring(data)
    except tree.ParseError as wrong:
        return f"no XML ({wrong}): {body_of(data)}"

    def nested(element):
        text = (element.text or "").strip()
        if re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", text):
            text = normal.value(datetime.datetime.fromisoformat(text))
        if element.tag.endswith("Location"):
            text = urllib.parse.urlsplit(text).path
        return element.tag, normal.text(text), [nested(child) for child in element]

    return nested(root)


def code_of(data):
    """The code of an XML error."""
    found = re.search(rb"<Code>([^<]*)</Code>", data)
    return found.group(1).decode() if found else None
