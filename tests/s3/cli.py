#!/usr/bin/env python3
"""The AWS command line against an S3 endpoint: copies, synchronises, lists, deletes and presigns, with nothing set but the endpoint."""

import argparse
import hashlib
import os
import pathlib
import random
import secrets
import shutil
import subprocess
import sys
import tempfile

SIZES = {"one": 1, "five": 5 << 20, "two-hundred": 200 << 20}


class Shell:
    """Runs `aws` with an environment that knows of nobody's own settings."""

    def __init__(self, given, folder):
        self.endpoint, self.folder = given.endpoint, folder
        beside = pathlib.Path(sys.executable).with_name("aws")
        self._aws = str(beside) if beside.exists() else shutil.which("aws")
        if not self._aws:
            sys.exit("no `aws` beside this python or on PATH")
        nowhere = str(folder / "nowhere")
        self._environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "AWS_ACCESS_KEY_ID": given.keys[0], "AWS_SECRET_ACCESS_KEY": given.keys[1],
            "AWS_DEFAULT_REGION": "us-east-1", "AWS_CONFIG_FILE": nowhere, "AWS_SHARED_CREDENTIALS_FILE": nowhere,
        }

    def aws(self, *arguments):
        """What it printed; an error when it failed."""
        command = [self._aws, "--endpoint-url", self.endpoint, *map(str, arguments)]
        done = subprocess.run(command, env=self._environment, capture_output=True, text=True, timeout=300, check=False)
        if done.returncode:
            raise AssertionError(f"aws {' '.join(map(str, arguments))}: {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def sum_of(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write(path, size, seed):
    """A file of random bytes, the same for the same seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source = random.Random(seed)
    with open(path, "wb") as file:
        while size > 0:
            piece = source.randbytes(min(size, 8 << 20))
            size -= file.write(piece)


def tree(folder):
    return {str(path.relative_to(folder)): sum_of(path) for path in sorted(folder.rglob("*")) if path.is_file()}


def same(got, wanted, what):
    if got != wanted:
        raise AssertionError(f"{what}: {got}, wanted {wanted}")


class Steps:
    """In order: each has what those before it left in S3."""

    def __init__(self, shell, bucket):
        self.shell, self.folder = shell, shell.folder
        self.root = f"s3://{bucket}/cli-{secrets.token_hex(4)}"
        self.local = self.folder / "local"

    def copy(self, name, size):
        """Up and down, and down once more: the second time it is held."""
        there, back = self.folder / name, self.folder / f"{name}.back"
        write(there, size, name)
        self.shell.aws("s3", "cp", there, f"{self.root}/cp/{name}", "--only-show-errors")
        for _ in range(2):
            self.shell.aws("s3", "cp", f"{self.root}/cp/{name}", back, "--only-show-errors")
            same(sum_of(back), sum_of(there), name)
            back.unlink()

    def overwrite(self):
        name = "over ä.bin"
        for seed in range(3):
            write(self.folder / name, 3 << 20, seed)
            self.shell.aws("s3", "cp", self.folder / name, f"{self.root}/cp/{name}", "--only-show-errors")
            self.shell.aws("s3", "cp", f"{self.root}/cp/{name}", self.folder / "over.back", "--only-show-errors")
            same(sum_of(self.folder / "over.back"), sum_of(self.folder / name), f"time {seed}")

    def within(self):
        self.shell.aws("s3", "cp", f"{self.root}/cp/five", f"{self.root}/cp/again", "--only-show-errors")
        self.shell.aws("s3", "mv", f"{self.root}/cp/again", f"{self.root}/cp/moved", "--only-show-errors")
        self.shell.aws("s3", "cp", f"{self.root}/cp/moved", self.folder / "moved", "--only-show-errors")
        same(sum_of(self.folder / "moved"), sum_of(self.folder / "five"), "copied and moved")

    def listed(self):
        lines = self.shell.aws("s3", "ls", f"{self.root}/cp/").splitlines()
        sizes = {line[31:]: int(line.split()[2]) for line in lines}
        wanted = {**SIZES, "moved": SIZES["five"], "over ä.bin": 3 << 20}
        same(sizes, wanted, "ls")
        total = self.shell.aws("s3", "ls", f"{self.root}/", "--recursive", "--summarize")
        if f"Total Size: {sum(wanted.values())}" not in total:
            raise AssertionError(f"ls --summarize: {total}")

    def synchronise(self):
        for number in range(20):
            write(self.local / f"{number % 4}" / f"file {number}.txt", number * 1000, number)
        self.shell.aws("s3", "sync", self.local, f"{self.root}/sync", "--only-show-errors")
        self.shell.aws("s3", "sync", f"{self.root}/sync", self.folder / "back", "--only-show-errors")
        same(tree(self.folder / "back"), tree(self.local), "first")
        same(self.shell.aws("s3", "sync", f"{self.root}/sync", self.folder / "back"), "", "nothing to do")
        write(self.local / "0" / "file 0.txt", 777, "new")
        write(self.local / "new" / "file.txt", 10, "new")
        (self.local / "1" / "file 1.txt").unlink()
        self.shell.aws("s3", "sync", self.local, f"{self.root}/sync", "--delete", "--only-show-errors")
        self.shell.aws("s3", "sync", f"{self.root}/sync", self.folder / "back", "--delete", "--only-show-errors")
        same(tree(self.folder / "back"), tree(self.local), "second")

    def presigned(self):
        url = self.shell.aws("s3", "presign", f"{self.root}/cp/five", "--expires-in", 60).strip()
        back = self.folder / "presigned"
        subprocess.run(["curl", "--silent", "--show-error", "--fail", "--output", back, url], check=True, timeout=60)
        same(sum_of(back), sum_of(self.folder / "five"), "by curl")
        spoilt = url[:-1] + ("0" if url[-1] != "0" else "1")
        code = subprocess.run(
            ["curl", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}", spoilt], capture_output=True, text=True, check=True)
        same(code.stdout, "403", "another signature")

    def api(self):
        """The command line's other half, and what it makes of a refusal."""
        bucket, _, key = self.root.removeprefix("s3://").partition("/")
        out = self.folder / "ranged"
        self.shell.aws("s3api", "get-object", "--bucket", bucket, "--key", f"{key}/cp/five", "--range", "bytes=1048570-1048579", out)
        with open(self.folder / "five", "rb") as file:
            same(out.read_bytes(), file.read()[1048570:1048580], "range")
        try:
            self.shell.aws("s3api", "get-object", "--bucket", bucket, "--key", f"{key}/nothing", out)
        except AssertionError as error:
            if "NoSuchKey" not in str(error):
                raise
        else:
            raise AssertionError("an absent key was read")

    def removed(self):
        self.shell.aws("s3", "rm", f"{self.root}/cp/one", "--only-show-errors")
        self.shell.aws("s3", "rm", f"{self.root}/", "--recursive", "--only-show-errors")
        lines = self.shell.aws("s3api", "list-objects-v2", "--bucket", self.root.split("/")[2], "--prefix", self.root.split("/")[3],
                               "--query", "Contents[].Key", "--output", "text").strip()
        same(lines, "None", "what is left")

    def all(self):
        for name, size in SIZES.items():
            yield f"cp of {size} bytes up and down", lambda name=name, size=size: self.copy(name, size)
        yield "cp over what is there", self.overwrite
        yield "cp and mv within", self.within
        yield "ls", self.listed
        yield "sync both ways", self.synchronise
        yield "presign and curl", self.presigned
        yield "s3api", self.api
        yield "rm --recursive", self.removed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True, metavar="URL")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--keys", nargs=2, default=["anybody", "secret"], metavar=("ID", "SECRET"))
    given = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, step in Steps(Shell(given, pathlib.Path(folder)), given.bucket).all():
            try:
                step()
            except (AssertionError, OSError, subprocess.SubprocessError) as error:
                print(f"FAIL {name}: {error}")
                failed += 1
            else:
                print(f"ok {name}")
                passed += 1
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
