"""Programs that want to do harm, really run: each must fail, with new name spaces and by the filters alone.

What they attack is made for them. None of them would harm this machine if the sandbox let it through: signals are
number 0, which reaches a process and does nothing, and calls of the kernel have arguments that it refuses.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

import pytest

from laurel.sandbox import Bounds, Finish, kernel, outside, run, starting
from laurel.sandbox.outside import Ended, Member, outcome, run_box

pytestmark = pytest.mark.skipif(kernel.missing() is not None, reason=f"no sandbox here: {kernel.missing()}")

TRIES = """
import json
said = {}
def attempt(name, act):
    try:
        said[name] = "done: " + repr(act())[:80]
    except BaseException as error:
        said[name] = type(error).__name__
"""


def attack(program: str, bounds: Bounds | None = None, *, namespaces: bool = False) -> Ended:
    """By the filters alone, unless asked otherwise: they have to suffice where the kernel gives no name spaces."""
    said = run_box([Member("script", {"program": program})], bounds or Bounds(), namespaces=namespaces)
    assert said.namespaces <= namespaces
    return outcome(said, "script")


readable = outside._readable()


@pytest.mark.parametrize("namespaces", [False, True])
def test_nothing_outside_is_read_written_reached_or_started(namespaces, tmp_path, monkeypatch):
    secret, other = tmp_path / "secret", tmp_path / "other"
    secret.write_text("the secret")
    other.mkdir(mode=0o777)
    monkeypatch.setenv("SECRET_TOKEN", "the secret")
    library = tmp_path / "library.py"  # something that may be read, as Python's library may
    library.write_text("x = 1")
    monkeypatch.setattr(outside, "_readable", lambda: [*readable, str(library)])
    monkeypatch.setattr(starting, "_RUNNING", {})
    before = library.stat()
    new = Path(tempfile.gettempdir()) / f"laurel-attack-{os.getpid()}"
    packages = [path for path in Path(sysconfig.get_path("stdlib")).glob("*-packages/*/*") if path.is_file()]
    reads = ["/etc/passwd", "/etc/hostname", "/proc/self/environ", "/proc/1/cmdline", "/proc/self/mem", "/dev/tty"]
    own = (secret, Path.home() / ".bashrc", run.__code__.co_filename, *packages[:1])
    reads += [str(path) for path in own]
    mailbox = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    mailbox.bind(str(tmp_path / "mailbox"))
    open_here = os.open(secret, os.O_RDWR)
    os.set_inheritable(open_here, True)
    program = f"""{TRIES}
import os, socket, subprocess, sys, resource, threading, ctypes, multiprocessing
from pathlib import Path
found = []
for descriptor in range(3, 256):
    try:
        os.fstat(descriptor)
        found.append(descriptor)
    except OSError:
        pass
said["descriptors"] = found
for path in {reads!r}:
    attempt("read " + path, lambda: open(path, "rb").read(1))
for path in ("/", "/etc", "/tmp", "/proc", {str(tmp_path)!r}, {str(Path.home())!r}, ".."):
    attempt("list " + path, lambda: os.listdir(path))
for path in ({str(secret)!r}, {str(other / "new")!r}, {str(new)!r}, "../" + {new.name!r}, {str(library)!r}):
    attempt("write " + path, lambda: open(path, "ab").write(b"x"))
    attempt("empty " + path, lambda: os.open(path, os.O_RDONLY | os.O_TRUNC))
    attempt("truncate " + path, lambda: os.truncate(path, 0))
    attempt("remove " + path, lambda: os.remove(path))
    attempt("rename " + path, lambda: os.rename(path, "stolen"))
    attempt("mode of " + path, lambda: os.chmod(path, 0o777))
    attempt("times of " + path, lambda: os.utime(path))
    attempt("owner of " + path, lambda: os.chown(path, 1, 1))
attempt("symbolic link", lambda: os.symlink({str(secret)!r}, "link"))
attempt("hard link", lambda: os.link({str(secret)!r}, "link"))
attempt("folder", lambda: os.mkdir("folder"))
attempt("pipe with a name", lambda: os.mkfifo("pipe"))
attempt("leave the folder", lambda: os.chdir("/"))
attempt("nameless file", lambda: os.open(".", os.O_TMPFILE | os.O_RDWR))
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET):
    attempt(f"socket {{family!r}}", lambda: socket.socket(family, socket.SOCK_RAW))
attempt("stream", lambda: socket.socket())
attempt("pair of another family", lambda: socket.socketpair(socket.AF_INET))
attempt("connection", lambda: socket.create_connection(("127.0.0.1", 22), 1))
pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
attempt("letter to another socket", lambda: pair[0].sendto(b"x", {str(tmp_path / "mailbox")!r}))
attempt("letter with descriptors", lambda: socket.send_fds(pair[0], [b"x"], [0]))
attempt("fork", os.fork)
attempt("shell", lambda: subprocess.run(["/bin/sh", "-c", "true"]))
attempt("other program", lambda: os.execv("/bin/true", ["true"]))
attempt("spawned", lambda: os.posix_spawn("/bin/true", ["true"], {{}}))
attempt("process", lambda: multiprocessing.Process(target=print).start())
attempt("new session", os.setsid)
attempt("new group", lambda: os.setpgid(0, 0))
attempt("memory file", lambda: os.memfd_create("x"))
attempt("more memory", lambda: resource.setrlimit(resource.RLIMIT_AS, (-1, -1)))
attempt("more time", lambda: resource.prlimit(0, resource.RLIMIT_CPU, (100, 100)))
attempt("limits of others", lambda: resource.prlimit(os.getppid() or 1, resource.RLIMIT_CPU))
attempt("niceness of others", lambda: os.setpriority(os.PRIO_PROCESS, os.getppid(), 19))
attempt("owner of signals", lambda: __import__("fcntl").fcntl(0, 8, 1))
attempt("typing for the user", lambda: __import__("fcntl").ioctl(0, 0x5412, b"x"))
for module in ("numpy", "laurel", "pytest"):
    attempt("import " + module, lambda: __import__(module))
said["environment"] = sorted(os.environ)
said["folder"] = os.listdir(".")
print(json.dumps(said))
"""
    ended = attack(program, namespaces=namespaces)
    os.close(open_here)
    mailbox.close()
    written = new.exists()
    new.unlink(missing_ok=True)
    assert ended.well, ended
    said = json.loads(ended.output)
    assert said.pop("environment") == ["LANG", "OMP_NUM_THREADS", "PYTHONHASHSEED", "TZ"]
    assert said.pop("descriptors") == []
    assert said.pop("folder") == []
    assert {name: result for name, result in said.items() if result.startswith("done")} == {}
    assert len(said) > 80
    assert secret.read_text() == "the secret"
    assert list(other.iterdir()) == [] and not written
    after = library.stat()
    assert library.read_text() == "x = 1"
    assert (after.st_size, after.st_mtime, after.st_mode) == (before.st_size, before.st_mtime, before.st_mode)


HOSTILE = {
    "signal to the parent": "import os; os.kill(os.getppid(), 0)",
    "signal to everybody": "import os; os.kill(-1, 0)",
    "signal to the group": "import os; os.killpg(0, 0)",
    "signal to the first": "import os; os.kill(1, 0)",
    "follow another": "import ctypes; ctypes.CDLL(None).ptrace(9999, {other}, 0, 0)",
    "be followed": "import ctypes; ctypes.CDLL(None).ptrace(0, 0, 0, 0)",
    "read another's memory": "import ctypes; ctypes.CDLL(None).process_vm_readv({other}, 0, 0, 0, 0, 0)",
    "keys": "import ctypes; ctypes.CDLL(None).syscall(250, 9999, 0, 0, 0, 0)",
    "kernel programs": "import ctypes; ctypes.CDLL(None).syscall(321, 9999, 0, 0)",
    "input and output rings": "import ctypes; ctypes.CDLL(None).syscall(425, 8, 0)",
    "mount": "import ctypes; ctypes.CDLL(None).mount(None, None, None, 0, 0)",
    "own name space": "import ctypes; ctypes.CDLL(None).unshare(0x10000000)",
    "clone with a name space": "import ctypes; ctypes.CDLL(None).syscall(56, 0x10000011, 0, 0, 0, 0)",
    "another root": "import ctypes; ctypes.CDLL(None).chroot(None)",
    "another user": "import os; os.setuid(0)",
    "a handle of another process": "import os; os.pidfd_open({other})",
    "the other numbering": "import ctypes; ctypes.CDLL(None).syscall(0x40000027)",
    "the calls of 32 bits": """
import ctypes, mmap
page = mmap.mmap(-1, 4096, prot=7)
page.write(bytes.fromhex("b814000000cd80c3"))  # mov eax, 20; int 0x80; ret
print(ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))())
""",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_call_is_the_last_one(name):
    ended = attack("print('here', flush=True)\n" + HOSTILE[name].format(other=os.getpid()))
    assert (ended.finish, ended.signal, ended.output) == (Finish.REFUSED, "SIGSYS", "here\n")
    assert "refuses" in str(ended)


def test_what_never_ends_is_ended():
    start = time.monotonic()
    ended = attack("while True: pass", Bounds(seconds=0.3))
    assert ended.finish is Finish.DEADLINE and time.monotonic() - start < 3
    assert time.monotonic() - start > 0.3
    asleep = attack("import signal, time\nfor s in set(signal.Signals) - {9, 19}: signal.signal(s, signal.SIG_IGN)\n"
                    "print(1, flush=True); time.sleep(60)", Bounds(seconds=0.3))  # fmt: skip
    assert (asleep.finish, asleep.output) == (Finish.DEADLINE, "1\n")
    threads = (
        "import threading\nfor _ in range(2):\n  threading.Thread(target=lambda: [0 for _ in iter(int, 1)]).start()"
    )
    assert attack(threads, Bounds(seconds=0.3)).finish is Finish.DEADLINE


def test_what_grows_without_end_is_ended():
    assert attack("x = b'x' * 10**10").finish is Finish.MEMORY
    assert attack("x = []\nwhile True: x.append(bytearray(10**7))").finish is Finish.MEMORY
    second = Bounds(seconds=1)  # in which a program could print far less than memory holds
    ended = attack("while True: print('x' * 1000)", second)
    assert ended.finish is Finish.OUTPUT and len(ended.output) == second.output_bytes
    assert attack("import sys\nwhile True: sys.stderr.write('x' * 1000)", second).finish is Finish.OUTPUT
    bomb = (
        "import threading, time\nn = 0\ntry:\n  while True: threading.Thread(target=time.sleep, args=(9,), daemon=True)"
    )
    ended = attack(bomb + ".start(); n += 1\nexcept (RuntimeError, MemoryError): print(n)")
    assert ended.well and int(ended.output) < 128


def test_a_folder_does_not_grow_without_end():
    small = Bounds(folder_bytes=1 << 16)
    assert attack("import time; open('a', 'wb').write(bytes(1 << 17)); time.sleep(4)", small).finish is Finish.FOLDER
    many = "import time\nfor i in range(100): open(str(i), 'w').close()\ntime.sleep(4)"
    assert attack(many).finish is Finish.FOLDER
    ended = attack("open('a', 'wb').write(bytes(1 << 23))")
    assert ended.exit_code == 1 and "File too large" in ended.errors


def processes_in(folder: str) -> list[str]:
    """Those that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if folder in os.readlink(entry / "cwd"):
                found.append(entry.name)
        except OSError:
            continue
    return found


def children_of(process: str) -> list[str]:
    try:
        return Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return []


@pytest.mark.parametrize("namespaces", [False, True])
def test_nothing_is_left_behind(namespaces):
    leave = "import os, threading, time\nprint(os.getcwd(), flush=True)\nopen('left', 'w').write('x')\n"
    leave += "threading.Thread(target=time.sleep, args=(60,)).start()\nos._exit(0)"
    ended = attack(leave, namespaces=namespaces)
    folder = ended.output.strip()
    assert ended.well and "laurel-" in folder
    assert not Path(folder).exists()
    started = time.monotonic()
    while processes_in(folder) and time.monotonic() - started < 20:  # killed, and on their way
        time.sleep(0.02)
    assert processes_in(folder) == []
    assert children_of(str(starting._RUNNING[os.getpid()].process.pid)) == []


def test_a_box_dies_with_whoever_started_it(tmp_path):
    code = "from laurel.sandbox import *; run('import time; time.sleep(60)', bounds=Bounds(seconds=60))"
    root = str(Path(run.__code__.co_filename).parents[2])
    parent = subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": root, "TMPDIR": str(tmp_path)}
    )

    started = time.monotonic()
    below: list[str] = []
    while len(below) < 3 and time.monotonic() - started < 20:  # the starter, the box, the program
        time.sleep(0.02)
        below = descendants(str(parent.pid))
    assert len(list(tmp_path.glob("laurel-*"))) == 1
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    while any(_lives(pid) for pid in below) and time.monotonic() - started < 20:
        time.sleep(0.02)
    assert len(below) >= 3 and not any(_lives(pid) for pid in below)
    while list(tmp_path.iterdir()) and time.monotonic() - started < 20:
        time.sleep(0.02)
    assert list(tmp_path.iterdir()) == []


def descendants(process: str) -> list[str]:
    return [pid for child in children_of(process) for pid in (child, *descendants(child))]


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
