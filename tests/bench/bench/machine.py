"""The machine: which core is whose, what a process costs in CPU time and memory, what stands in the report's head."""

import ctypes
import os
import platform
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

CORES = sorted(os.sched_getaffinity(0))
SERVER, CLIENT = [CORES[0]], [CORES[-1]]
ROOT = Path(__file__).resolve().parents[3]
HERE = ROOT / "tests/bench"

_LIBC = ctypes.CDLL(None)
_PDEATHSIG = 1
_next_port = 21000


def free_port():
    """A port below the range that connections are given theirs from, so that none of them can take it."""
    global _next_port
    while True:
        _next_port += 1
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", _next_port))
                return _next_port
            except OSError:
                continue


def spawn(command, cores, output, nice=0, environment=None):
    """Starts a command on these cores, in a group of its own that ends with us, however we end."""

    def ready():
        _LIBC.prctl(_PDEATHSIG, signal.SIGTERM)
        os.sched_setaffinity(0, cores)
        if nice:
            # Only root may be less than nice; the report says how late the client was.
            try:
                os.setpriority(os.PRIO_PROCESS, 0, nice)
            except PermissionError:
                pass

    return subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
        preexec_fn=ready, start_new_session=True, env={**os.environ, **(environment or {})})


def tree(pid):
    """The process and all that came from it."""
    children = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
            except OSError:
                continue
            children.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(int(entry))
    found = [pid]
    for each in found:
        found.extend(children.get(each, []))
    return found


def cpu_seconds(pids):
    """User and system time of these processes so far, to the nanosecond, their ended threads included."""
    total = 0.0
    for pid in pids:
        try:
            # The kernel's name for the clock of another process: clock_getcpuclockid(3).
            total += time.clock_gettime((~pid << 3) | 2)
        except OSError:
            pass  # it has ended
    return total


def resident(pids):
    """Bytes of memory, what several processes share counted once."""
    total = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        total += int(re.search(r"^Pss:\s+(\d+)", text, re.M)[1]) * 1024
    return total


def socket_memory():
    """Bytes that the kernel holds for TCP, of the whole machine."""
    pages = re.search(r"^TCP:.* mem (\d+)", Path("/proc/net/sockstat").read_text(), re.M)
    return int(pages[1]) * os.sysconf("SC_PAGE_SIZE")


def stored(folder):
    """Bytes that a folder takes, as blocks and not as lengths."""
    total = 0
    for where, _, files in os.walk(folder):
        for name in files:
            try:
                total += os.lstat(os.path.join(where, name)).st_blocks * 512
            except OSError:
                pass
    return total


def _said(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except OSError:
        return ""
    return (done.stdout + done.stderr).strip()


def commit():
    """What was measured; with a mark when the files differ from it."""
    name = _said("git", "-C", ROOT, "rev-parse", "--short=12", "HEAD")
    changed = _said("git", "-C", ROOT, "status", "--porcelain", "--", "cache", "Cargo.toml", "Cargo.lock", "tests/bench")
    return name + (" and uncommitted changes" if changed else "")


def facts():
    """What a reader has to know of the machine and the versions."""
    model = re.search(r"^model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / 2**20
    hypervisor = " (virtual)" if "hypervisor" in Path("/proc/cpuinfo").read_text() else ""
    return {
        "machine": f"{model[1] if model else platform.machine()}{hypervisor}, {len(CORES)} cores, {memory:.0f} GiB, Linux {platform.release()}",
        "nginx": _said("nginx", "-v").removeprefix("nginx version: nginx/"),
        "varnish": (re.search(r"varnish-([\d.]+)", _said("varnishd", "-V")) or [None, ""])[1],
        "groupcache": (re.search(r"groupcache-go/v3 v([\d.]+)", (HERE / "groupcache/go.mod").read_text()) or [None, ""])[1],
        "go": _said("go", "env", "GOVERSION"),
    }


def end(pids, deadline):
    """Waits for processes that were told to end, and kills those that are still there at the deadline."""
    while alive := [pid for pid in pids if Path(f"/proc/{pid}").exists() and not _is_zombie(pid)]:
        if time.monotonic() > deadline:
            for pid in alive:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            return
        time.sleep(0.01)


def _is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
