"""Honest cells of every kind that asks the kernel for something of its own: what the lock must not break.

`tests/container/test_valid_python.py` runs them in a locked box
`trace_syscalls.py` finds out which system calls they
need. Each asserts its own outcome, so a cell that ends without an error did what it says.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

CELLS: dict[str, str] = {
    "threads": """
import threading, queue
results = queue.Queue()
threads = [threading.Thread(target=lambda n=n: results.put(n)) for n in range(50)]
[thread.start() for thread in threads]; [thread.join(10) for thread in threads]
assert sorted(results.get() for _ in threads) == list(range(50))
""",
    "thread pool": """
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(8) as pool:
    assert sum(pool.map(len, ["ab"] * 100)) == 200
""",
    "process pool, forked": """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:
    assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))
""",
    "process pool, fork server": """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("forkserver")) as pool:
    assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))
""",
    "process pool, spawned": """
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
    assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))
""",
    "multiprocessing primitives": """
import multiprocessing as mp
mp = mp.get_context("fork")
def work(semaphore, lock, event, total, numbers, pipe):
    with semaphore, lock:
        total.value += 1
    pipe.send(numbers[0]); event.wait(10)
semaphore, lock, event, total, numbers = mp.Semaphore(2), mp.Lock(), mp.Event(), mp.Value("i", 0), mp.Array("d", [1.5])
ours, theirs = mp.Pipe()
workers = [mp.Process(target=work, args=(semaphore, lock, event, total, numbers, theirs)) for _ in range(4)]
[worker.start() for worker in workers]
assert [ours.recv() for _ in workers] == [1.5] * 4
event.set(); [worker.join(10) for worker in workers]
assert total.value == 4 and [worker.exitcode for worker in workers] == [0] * 4
queue = mp.Queue(); queue.put("text"); assert queue.get(timeout=10) == "text"
with mp.Pool(2) as pool:
    assert pool.map(len, ["a", "bc"]) == [1, 2]
stopped = mp.Process(target=event.__class__.wait, args=(mp.Event(),))
stopped.start(); stopped.terminate(); stopped.join(10); assert stopped.exitcode == -15
""",
    "shared memory": """
from multiprocessing import shared_memory
block = shared_memory.SharedMemory(create=True, size=100_000)
block.buf[:4] = b"text"
other = shared_memory.SharedMemory(block.name); assert bytes(other.buf[:4]) == b"text"
other.close(); block.close(); block.unlink()
""",
    "a manager": """
import multiprocessing
with multiprocessing.get_context("fork").Manager() as manager:
    shared = manager.dict(); shared["a"] = 1; assert dict(shared) == {"a": 1}
""",
    "subprocess": """
import subprocess, sys
assert "passwd" in subprocess.run(["ls", "/etc"], capture_output=True, text=True, check=True).stdout
assert subprocess.run("echo a | tr a b", shell=True, capture_output=True).stdout == b"b\\n"
told = subprocess.run([sys.executable, "-c", "print(input())"], input="x", capture_output=True, text=True)
assert told.stdout == "x\\n"
counted = subprocess.run("sort | uniq -c | head -1", shell=True, input=b"b\\na\\na\\n", capture_output=True)
assert counted.stdout.split() == [b"2", b"a"]
waiting = subprocess.Popen(["sleep", "60"], start_new_session=True, cwd="/tmp")
waiting.terminate(); assert waiting.wait(10) == -15
try:
    subprocess.run(["sleep", "60"], timeout=0.1)
except subprocess.TimeoutExpired:
    pass
import os
group = subprocess.Popen(["sleep", "60"], process_group=0)
os.killpg(group.pid, 9); assert group.wait(10) == -9
assert os.system("true") == 0 and os.popen("echo a").read() == "a\\n"
""",
    "shell escapes": """
found = !ls /etc | grep passwd
assert "passwd" in found
!true
""",
    "fork and wait": """
import os, resource
child = os.fork()
if child == 0:
    os._exit(7)
pid, status, usage = os.wait4(child, 0)
assert (pid, os.waitstatus_to_exitcode(status)) == (child, 7)
assert os.posix_spawn("/bin/true", ["true"], {}) and os.waitstatus_to_exitcode(os.wait()[1]) == 0
os.sched_getaffinity(0); os.getloadavg(); os.times(); os.getpgid(0); os.getsid(0); os.getgroups(); os.uname()
os.getpriority(os.PRIO_PROCESS, 0); os.nice(1); os.umask(os.umask(0o22))
os.sched_yield(); os.cpu_count(); os.getresuid(); os.getresgid()
os.sched_setaffinity(0, os.sched_getaffinity(0)); os.sched_get_priority_max(os.SCHED_OTHER)
os.sched_get_priority_min(os.SCHED_OTHER)
child = os.posix_spawn("/bin/true", ["true"], {}); assert os.waitid(os.P_PID, child, os.WEXITED).si_status == 0
resource.getrusage(resource.RUSAGE_SELF); resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (512, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
""",
    "sqlite": """
import sqlite3
for path in ("/tmp/a.db", ":memory:"):
    db = sqlite3.connect(path)
    db.execute("create table t (a, b)")
    db.executemany("insert into t values (?, ?)", [(n, str(n)) for n in range(1000)])
    db.commit(); assert db.execute("select sum(a) from t").fetchone() == (499500,)
    db.execute("vacuum"); db.close()
db = sqlite3.connect("/tmp/wal.db"); assert db.execute("pragma journal_mode=wal").fetchone() == ("wal",)
db.execute("create table t (a)"); db.execute("insert into t values (1)"); db.commit(); db.close()
import dbm
with dbm.open("/tmp/a.dbm", "c") as table:
    table["a"] = "b"; assert table["a"] == b"b"
""",
    "time zones": """
import datetime, time, zoneinfo
noon = datetime.datetime(2024, 7, 1, 12, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
assert noon.utcoffset() == datetime.timedelta(hours=2)
assert len(zoneinfo.available_timezones()) > 300
time.sleep(0.001); time.process_time(); time.thread_time(); time.monotonic(); time.localtime()
time.get_clock_info("time")
time.clock_getres(time.CLOCK_MONOTONIC)
""",
    "files": """
import os, pathlib, shutil, tempfile, glob, fcntl, stat, filecmp
with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as plain:
    root = pathlib.Path(folder); named = tempfile.NamedTemporaryFile(dir=folder, delete=False)
    named.write(b"text"); named.close(); plain.write(b"x" * 100_000); plain.seek(0)
    assert len(plain.read()) == 100_000
    (root / "a" / "b").mkdir(parents=True); (root / "a" / "c.txt").write_text("c" * 1_000_000)
    (root / "link").symlink_to("a"); (root / "hard").hardlink_to(root / "a" / "c.txt")
    assert (root / "link" / "c.txt").read_text() == "c" * 1_000_000 and os.readlink(root / "link") == "a"
    shutil.copy2(root / "a" / "c.txt", root / "d.txt"); shutil.copytree(root / "a", root / "e")
    shutil.move(root / "e", root / "f")
    assert filecmp.cmp(root / "a" / "c.txt", root / "f" / "c.txt", shallow=False)
    os.rename(root / "d.txt", root / "g.txt"); os.chmod(root / "g.txt", 0o600); os.utime(root / "g.txt", (1, 1))
    os.truncate(root / "g.txt", 10)
    assert (root / "g.txt").stat().st_size == 10 and stat.S_IMODE((root / "g.txt").stat().st_mode) == 0o600
    os.mkfifo(root / "fifo"); os.access(root, os.R_OK); os.access(root, os.R_OK, effective_ids=True);
    os.mknod(root / "plain"); os.lchown(root / "link", -1, -1); shutil.chown(root / "g.txt", os.getuid())
    os.statvfs(root); shutil.disk_usage(root)
    assert len(list(root.rglob("*"))) > 5 and glob.glob(f"{folder}/**/*.txt", recursive=True)
    with open(root / "g.txt", "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX); fcntl.lockf(file, fcntl.LOCK_UN); file.truncate(5); os.fsync(file)
        os.fdatasync(file.fileno())
        os.posix_fallocate(file.fileno(), 0, 100); os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_SEQUENTIAL)
        os.pwrite(file.fileno(), b"p", 3); assert os.pread(file.fileno(), 1, 3) == b"p"
        os.preadv(file.fileno(), [bytearray(2), bytearray(2)], 0); os.pwritev(file.fileno(), [b"a", b"b"], 0)
        os.writev(file.fileno(), [b"a", b"b"]); os.lseek(file.fileno(), 0, os.SEEK_SET)
        os.readv(file.fileno(), [bytearray(2)])
        os.fchmod(file.fileno(), 0o644); os.chown(root / "g.txt", os.getuid(), os.getgid())
        os.fchown(file.fileno(), -1, -1)
        os.close(os.dup(file.fileno())); os.dup2(file.fileno(), 200); os.close(200)
        os.set_inheritable(file.fileno(), True)
    folder_fd = os.open(folder, os.O_RDONLY)
    os.stat("g.txt", dir_fd=folder_fd); os.unlink("g.txt", dir_fd=folder_fd); os.mkdir("h", dir_fd=folder_fd)
    os.rmdir("h", dir_fd=folder_fd)
    os.fchdir(folder_fd); os.chdir("/tmp"); os.close(folder_fd)
    assert os.getcwd() == "/tmp"
import linecache, py_compile, zipfile, tarfile, gzip, bz2, lzma, csv, pickle
with zipfile.ZipFile("/tmp/a.zip", "w") as archive: archive.writestr("a", "b")
with tarfile.open("/tmp/a.tar.gz", "w:gz") as archive: archive.add("/tmp/a.zip")
for module in (gzip, bz2, lzma): assert module.decompress(module.compress(b"text" * 1000)) == b"text" * 1000
""",
    "mmap": """
import mmap, ctypes, tempfile
with tempfile.TemporaryFile() as file:
    file.write(b"x" * 1_000_000); file.flush()
    with mmap.mmap(file.fileno(), 0) as mapped:
        mapped[:4] = b"text"; mapped.flush(); mapped.madvise(mmap.MADV_SEQUENTIAL); assert mapped.find(b"x", 1) == 2
        mapped.resize(2_000_000)
anonymous = mmap.mmap(-1, 1 << 20); anonymous[:1] = b"a"; anonymous.close()
ctypes.CDLL(None).getpid(); compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)
assert compare(1) == 2
""",
    "large objects": """
import array, gc
numbers = list(range(3_000_000)); text = "x" * 100_000_000; blob = bytearray(100_000_000)
cells = array.array("d", bytes(8_000_000))
text += "y"; blob.extend(b"z"); assert text[-1] == "y" and blob[-1] == 122
del numbers, text, blob; gc.collect()
words = {str(n): n for n in range(300_000)}; assert words["7"] == 7; del words
""",
    "signals": """
import signal, os, threading, faulthandler, time
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append(1)); os.kill(os.getpid(), signal.SIGUSR1)
signal.raise_signal(signal.SIGUSR1); signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
signal.signal(signal.SIGALRM, lambda *_: seen.append(2)); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
signal.alarm(1); signal.alarm(0); signal.getitimer(signal.ITIMER_REAL)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])
assert signal.sigpending() == set() and signal.sigtimedwait([signal.SIGUSR2], 0.01) is None
signal.pthread_kill(threading.get_ident(), signal.SIGUSR2)
assert signal.sigwait([signal.SIGUSR2]) == signal.SIGUSR2
os.kill(os.getpid(), signal.SIGUSR1)
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR2]); signal.siginterrupt(signal.SIGUSR1, False)
assert seen == [1, 1, 1, 2, 1]
faulthandler.dump_traceback(open("/tmp/trace", "w"))
os.kill(os.getpid(), 0)
""",
    "asyncio": """
import asyncio, sys
async def work(n):
    await asyncio.sleep(0.001); return n
assert await asyncio.gather(*map(work, range(10))) == list(range(10))
assert await asyncio.to_thread(len, "ab") == 2
async def serve(reader, writer):
    writer.write(await reader.readline()); await writer.drain(); writer.close()
server = await asyncio.start_unix_server(serve, "/tmp/a.sock")
reader, writer = await asyncio.open_unix_connection("/tmp/a.sock")
writer.write(b"line\\n"); assert await reader.readline() == b"line\\n"
writer.close(); server.close()
async with asyncio.timeout(5), asyncio.TaskGroup() as group:
    group.create_task(work(1))
""",
    "asyncio in a loop of its own": """
import asyncio, threading
def run(): asyncio.run(asyncio.sleep(0.001))
thread = threading.Thread(target=run); thread.start(); thread.join(10)
""",
    "asyncio subprocess": """
import asyncio
process = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
assert (await process.communicate(b"text"))[0] == b"text"
process = await asyncio.create_subprocess_shell("exit 3"); assert await process.wait() == 3
process = await asyncio.create_subprocess_exec("sleep", "60"); process.kill(); assert await process.wait() == -9
""",
    "unix sockets and polls": """
import socket, select, selectors, os, struct, array
left, right = socket.socketpair()
left.sendall(b"text"); assert right.recv(10) == b"text"
left.sendmsg([b"a", b"b"]); assert right.recvmsg(10)[0] == b"ab"
left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096); left.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)
socket.send_fds(left, [b"x"], [0]); data, fds, *_ = socket.recv_fds(right, 1, 1); os.close(fds[0])
datagrams = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); datagrams.bind("/tmp/d.sock"); datagrams.settimeout(1)
socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"d", "/tmp/d.sock")
assert datagrams.recvfrom(9)[0] == b"d"
listener = socket.socket(socket.AF_UNIX); listener.bind("/tmp/l.sock"); listener.listen(); listener.getsockname()
client = socket.socket(socket.AF_UNIX); client.connect("/tmp/l.sock"); accepted, _ = listener.accept()
accepted.getpeername()
left.send(b"z")
assert select.select([right], [], [], 1)[0] == [right]
poll = select.poll(); poll.register(right, select.POLLIN); assert poll.poll(1000)
epoll = select.epoll(); epoll.register(right, select.EPOLLIN); assert epoll.poll(1); epoll.close()
selector = selectors.DefaultSelector(); selector.register(right, selectors.EVENT_READ); assert selector.select(1)
left.shutdown(socket.SHUT_WR); [sock.close() for sock in (left, right, datagrams, listener, client, accepted)]
read_fd, write_fd = os.pipe(); os.set_blocking(read_fd, False); os.write(write_fd, b"p")
assert os.read(read_fd, 1) == b"p"
event = os.eventfd(1); assert os.eventfd_read(event) == 1
timer = os.timerfd_create(0); os.timerfd_settime(timer, initial=0.001); assert len(os.read(timer, 8)) == 8
os.timerfd_gettime(timer); os.close(os.dup(timer)); os.pidfd_open(os.getpid())
""",
    "randomness and hashes": """
import os, random, secrets, hashlib, uuid, hmac, zlib
os.urandom(16), secrets.token_hex(8), random.random(), uuid.uuid4(), uuid.uuid1(), os.getrandom(8)
assert hashlib.sha256(b"").hexdigest().startswith("e3b0c442") and hashlib.scrypt(b"", salt=b"s", n=2, r=1, p=1)
""",
    "the machine": """
import platform, sys, os, pwd, grp, locale, getpass, socket, ctypes.util
platform.platform(), platform.processor(), sys.getswitchinterval(), pwd.getpwuid(os.getuid()), grp.getgrgid(os.getgid())
locale.setlocale(locale.LC_ALL, "C.UTF-8"), getpass.getuser(), socket.gethostname(), os.listdir("/proc/self")
open("/proc/meminfo").read(), open("/proc/self/status").read(), os.listdir("/dev"), os.sysconf("SC_NPROCESSORS_ONLN")
os.listxattr("/tmp"); socket.getaddrinfo("127.0.0.1", 80)
import pty; [os.close(fd) for fd in pty.openpty()]
""",
    "coreutils": """
import subprocess
script = '''set -e
cd /tmp; mkdir -p w; cd w; printf 'b\\\\na\\\\n' >x; sort x >y; cat x y | grep -c a; sed s/a/c/ x
awk '{print $1}' x || true
cp -a x z; mv z zz; ln -s x l; ln x h; ls -la; stat x; touch -d @1000000000 x; chmod 600 x; find . -type f
du -s .; df . ; wc -l x; head -1 x
tail -1 x; cut -c1 x; tr a b <x; diff x y || true; cmp x y || true; tar cf a.tar x; gzip -c x >x.gz; base64 x
sha256sum x; od -c x; date; id
env; uname -a; nproc; expr 1 + 1; test -f x; xargs echo <x; tee t <x; seq 3; sleep 0.01; timeout 1 true; nice true
mktemp; dd if=x of=d
truncate -s 5 d; split x; paste x y; realpath x; readlink l; rm -r -- *; rmdir ../w; true & wait; kill -0 $$
(sleep 9 & kill $!); ulimit -a; umask
trap 'echo t' USR1; kill -USR1 $$
'''
for shell in ("sh", "bash"):
    done = subprocess.run([shell, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, (shell, done.stderr)
""",
    "sub-calls": """
from concurrent.futures import ThreadPoolExecutor
assert llm_query("a") == "a" and llm_query_batched(["b", "c"]) == ["b", "c"]
with ThreadPoolExecutor(16) as pool:
    assert list(pool.map(llm_query, map(str, range(64)))) == [str(n) for n in range(64)]
""",
    "output": """
import sys, os, warnings, logging, pprint, subprocess
print("x" * 100_000); sys.stderr.write("e\\n"); warnings.warn("w"); logging.warning("l"); display({"a": 1})
pprint.pprint([1])
subprocess.run(["echo", "from a child"]); os.write(1, b"raw")
if os.fork() == 0:
    print("forked", flush=True); os._exit(0)
os.wait()
{"a": 1}
""",
    "exceptions": """
import traceback
def deep(n): return deep(n + 1)
try: deep(0)
except RecursionError: traceback.format_exc()
try: open("/nowhere")
except FileNotFoundError: pass
try: open("/new", "w")
except OSError: pass
try: bytearray(1 << 60)
except MemoryError: pass
""",
    "imports": """
import importlib, pkgutil, sys
skipped = {"antigravity", "this", "idlelib", "turtledemo", "lib2to3", "tkinter", "turtle", "msilib", "winreg"}
for name in sorted(sys.stdlib_module_names):
    if not name.startswith("_") and name not in skipped:
        try: importlib.import_module(name)
        except ImportError: pass
""",
    "introspection": """
import inspect, ast, dis, gc, tracemalloc, cProfile, timeit, sys, io, contextlib
tracemalloc.start(); tracemalloc.take_snapshot(); tracemalloc.stop(); cProfile.Profile().runcall(sum, [1])
timeit.timeit("1", number=9)
with contextlib.redirect_stdout(io.StringIO()): dis.dis(deep) if "deep" in globals() else help(len)
""",
    "a new thread's stack": """
import threading
threading.stack_size(1 << 20); thread = threading.Thread(target=len, args=("",)); thread.start(); thread.join()
threading.stack_size(0)
""",
    "an unawaited child": "import subprocess; left = subprocess.Popen(['sleep', '0.05'])",
}


def humaneval(data: Path) -> dict[str, str]:
    """HumanEval's 164 solutions, each with its tests, as one cell."""
    with gzip.open(data / "code" / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        problems = [json.loads(line) for line in lines]
    return {
        problem["task_id"]: f"{problem['prompt']}{problem['canonical_solution']}\n{problem['test']}\n"
        f"check({problem['entry_point']})\n"
        for problem in problems
    }
