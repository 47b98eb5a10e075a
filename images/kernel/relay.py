"""PID 1 of the box: moves frames between the host and the kernel, and nothing else.

The host holds the other ends of our stdin and stdout. What it writes goes to the kernel's ZeroMQ sockets, what the
kernel sends goes to the host. The relay decides nothing, holds no secret, never blocks, and ends when its stdin
ends: that is what removes the box when the host process is killed.

A frame is ``u32 length | u8 channel | parts``, a part is ``u32 length | bytes``, big-endian; the first length counts
all that follows it. Channel 0 is the relay's own: the host says hello, before which the relay stays silent, and
later interrupt; the relay says hello and how the kernel ended (JSON, one part).

A cell shares our uid and will attack us: it may send every signal, flood every socket and fill every pipe.
"""

import contextlib
import ctypes
import gc
import json
import os
import signal
import struct
import sys

import hangup  # noqa: F401 - first of what is ours: it watches while the others are imported
import zmq
from calls import endpoint, split_parts

RELAY, SHELL, CONTROL, IOPUB, CALLS = 0, 1, 2, 3, 6  # 4 and 5 are kept for stdin and heartbeat
MAX_INBOUND_BYTES = 64 << 20  # the host is trusted, its bugs are not
MAX_PENDING_BYTES = 4 << 20  # above this we stop reading from the kernel, whose queues then grow in its own memory
READ_BYTES = 1 << 20
PR_SET_DUMPABLE = 4
INTERRUPT = b"interrupt"
KERNEL_NICE = 10  # PID 1 comes first among hundreds of busy processes; to other boxes it makes no difference


def main() -> None:
    run_dir = sys.argv[1]
    ready_fd, ready_write_fd = os.pipe()
    gc.freeze()  # a collection would write to pages that both share, and so take them twice
    kernel_pid = os.fork()
    if kernel_pid == 0:
        os.close(ready_fd)
        start_kernel(run_dir, ready_write_fd)
    os.close(ready_write_fd)
    make_undumpable()
    Relay(run_dir, kernel_pid, ready_fd).run()


def start_kernel(run_dir: str, ready_fd: int) -> None:
    """Become the kernel: own process group, no way to the host, last for the CPU, first to go without memory."""
    os.setsid()
    import kernel  # here, so that PID 1 is small, and there the sooner; a failure is told on our stderr

    os.nice(KERNEL_NICE)
    null_fd = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null_fd, fd)
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:
        pass  # gVisor before 2023 has no such file; there the whole box ends
    status = 1
    try:
        kernel.run(run_dir, ready_fd)
        status = 0
    finally:
        os._exit(status)


def make_undumpable() -> None:
    """Close /proc/1/{mem,fd,environ} to the kernel, which has our uid (not to be relied on under gVisor)."""
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


class Relay:
    def __init__(self, run_dir: str, kernel_pid: int, ready_fd: int) -> None:
        self.run_dir = run_dir
        self.kernel_pid = kernel_pid
        self.ready_fd = ready_fd
        self.kernel_code: int | None = None
        self.ended = False
        self.greeted = False
        self.inbound = bytearray()
        self.outbound = bytearray()
        self.sockets: dict[int, zmq.Socket] = {}
        self.answers: zmq.Socket | None = None
        self.listening = False
        self.signal_fd = self.catch_signals()
        os.set_blocking(0, False)
        os.set_blocking(1, False)

    def catch_signals(self) -> int:
        """SIGTERM ends the box, SIGCHLD wakes us, all others that can be ignored are: a cell may send any of them."""
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGCHLD}:
            try:
                signal.signal(number, signal.SIG_IGN)
            except OSError:
                pass  # the C library keeps two for itself
        read_fd, write_fd = os.pipe()
        os.set_blocking(read_fd, False)
        os.set_blocking(write_fd, False)
        signal.set_wakeup_fd(write_fd, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self.on_term)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        return read_fd

    def on_term(self, *_: object) -> None:
        self.ended = True

    def run(self) -> None:
        poller = zmq.Poller()
        poller.register(0, zmq.POLLIN)
        poller.register(self.signal_fd, zmq.POLLIN)
        poller.register(self.ready_fd, zmq.POLLIN)
        poller.register(1, 0)
        while not self.ended:
            self.choose_events(poller)
            events = dict(poller.poll())
            if self.signal_fd in events:
                self.drain_signals()
            if 0 in events:
                self.read_host()
            if self.ready_fd in events:
                poller.unregister(self.ready_fd)
                self.connect()
            for channel, socket in self.sockets.items():
                if socket in events:
                    self.read_kernel(channel, socket)
            self.write_host()
            self.reap()
            if self.greeted and self.kernel_code is not None:
                self.report_death()

    def choose_events(self, poller: zmq.Poller) -> None:
        """Read the kernel only while the host takes what we have; watch the host's pipe only when we have something."""
        poller.modify(1, zmq.POLLOUT if self.outbound else 0)
        listening = self.greeted and len(self.outbound) < MAX_PENDING_BYTES
        if listening != self.listening:
            self.listening = listening and bool(self.sockets)
            for socket in self.sockets.values():
                poller.register(socket, zmq.POLLIN if listening else 0)

    def connect(self) -> None:
        """The kernel has bound its sockets (or died before: then the pipe ended, and `reap` reports it)."""
        if not os.read(self.ready_fd, 1):
            return
        context = zmq.Context()
        for channel, kind, number in (
            (SHELL, zmq.DEALER, 1),
            (CONTROL, zmq.DEALER, 2),
            (IOPUB, zmq.SUB, 3),
            (CALLS, zmq.PULL, 5),
        ):
            self.sockets[channel] = self.open_socket(context, kind, number)
        self.answers = self.open_socket(context, zmq.PUSH, 6)

    def open_socket(self, context: zmq.Context, kind: int, number: int) -> zmq.Socket:
        socket: zmq.Socket = context.socket(kind)
        socket.linger = 0
        socket.sndhwm = 0
        socket.rcvhwm = 64  # drops nothing: the kernel's own are unlimited, so what we don't read waits there
        if kind == zmq.SUB:
            socket.subscribe(b"")
        socket.connect(endpoint(self.run_dir, number))
        return socket

    def read_host(self) -> None:
        try:
            data = os.read(0, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self.ended = True
            return
        self.inbound += data
        while len(self.inbound) >= 4:
            (length,) = struct.unpack_from(">I", self.inbound)
            if length > MAX_INBOUND_BYTES:
                self.ended = True
                return
            if len(self.inbound) < 4 + length:
                return
            channel, piece = self.inbound[4], bytes(self.inbound[5 : 4 + length])
            del self.inbound[: 4 + length]
            self.to_kernel(channel, piece)

    def to_kernel(self, channel: int, piece: bytes) -> None:
        if channel == RELAY and split_parts(piece) == [INTERRUPT]:
            self.interrupt()
        elif channel == RELAY:
            self.greeted = True
            self.to_host(RELAY, [json.dumps({"event": "hello"}).encode()])
        elif channel == CALLS and self.answers is not None:
            self.answers.send(piece, zmq.NOBLOCK)
        elif channel in (SHELL, CONTROL) and channel in self.sockets:
            self.sockets[channel].send_multipart(split_parts(piece), zmq.NOBLOCK)

    def interrupt(self) -> None:
        """SIGINT to the kernel and its children. From here, because a cell in C code that holds Python's lock keeps the
        kernel's own control thread from it; before any later message of the host, so that it hits no later cell.
        """
        with contextlib.suppress(OSError):
            os.killpg(self.kernel_pid, signal.SIGINT)

    def read_kernel(self, channel: int, socket: zmq.Socket) -> None:
        while len(self.outbound) < MAX_PENDING_BYTES:
            try:
                if channel == CALLS:
                    self.piece_to_host(channel, socket.recv(zmq.NOBLOCK))
                else:
                    self.to_host(channel, socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return

    def piece_to_host(self, channel: int, piece: bytes) -> None:
        self.outbound += struct.pack(">IB", 1 + len(piece), channel)
        self.outbound += piece

    def to_host(self, channel: int, parts: list[bytes]) -> None:
        self.outbound += struct.pack(">IB", 1 + sum(4 + len(part) for part in parts), channel)
        for part in parts:
            self.outbound += struct.pack(">I", len(part))
            self.outbound += part

    def write_host(self) -> None:
        try:
            if self.outbound:
                del self.outbound[: os.write(1, self.outbound)]
        except BlockingIOError:
            pass
        except OSError:
            self.ended = True

    def drain_signals(self) -> None:
        try:
            os.read(self.signal_fd, 4096)
        except BlockingIOError:
            pass

    def reap(self) -> None:
        """Collect dead children without ever waiting."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.kernel_pid:
                self.kernel_code = os.waitstatus_to_exitcode(status)

    def report_death(self) -> None:
        """The kernel's death is the box's: pass on its last words, say how it ended, and end."""
        for channel, socket in self.sockets.items():
            self.read_kernel(channel, socket)
        self.to_host(RELAY, [json.dumps({"event": "kernel_exit", "code": self.kernel_code}).encode()])
        poller = zmq.Poller()
        poller.register(0, zmq.POLLIN)
        poller.register(1, zmq.POLLOUT)
        while self.outbound and not self.ended:
            if 0 in dict(poller.poll()):
                self.read_host()
            self.write_host()
        self.ended = True


if __name__ == "__main__":
    main()
