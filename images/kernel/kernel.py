"""The kernel of the box: an `IPythonKernel` on ``ipc://`` sockets, without what a box does not need.

Differences from the stock kernel, each found by trying (see README.md of this folder):
- no TCP anywhere: ipykernel's pipe for forked children is moved to an ``ipc://`` path;
- no subshells, no history, no debugger, no echo of the code: each costs time or memory and nobody listens;
- high-water marks at 0, so that no output is lost silently; instead each stream is capped head+tail here;
- one sender thread for all output, so that short threads do not use up file descriptors;
- what a cell asks and waits for goes over sockets of its own (`calls.py`).

The host asks for three things of our own on the shell channel, beside ``execute_request``: ``airlock_setup_request``,
``airlock_load_request`` and ``airlock_value_request``. The host believes nothing of what this file says.
"""

import contextlib
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import answers
import lean  # before ipykernel, whose imports it cuts
import repl
import tools
import variables
import zmq
from calls import Calls, endpoint
from host import Host
from ipykernel.control import ControlThread
from ipykernel.iostream import IOPubThread
from ipykernel.ipkernel import IPythonKernel
from jupyter_client.session import Session
from modules import open_modules
from shell import BoxCompiler, BoxShell, BoxStream, clip
from tornado.ioloop import IOLoop
from tornado.platform import asyncio as _  # noqa: F401 - ioloop looks for it late
from traitlets import Type
from traitlets.config.loader import Config
from zmq.eventloop.zmqstream import ZMQStream


class BoxIOPubThread(IOPubThread):
    """The one thread that sends output."""

    def __init__(self, socket: zmq.Socket, run_dir: str, session: Session) -> None:
        self._pipe_endpoint = endpoint(run_dir, 4)
        super().__init__(socket, pipe=True, session=session)

    def schedule(self, f: Any) -> None:
        """Stock ipykernel opens a ZeroMQ socket for each thread that prints; the event loop's own queue needs none."""
        if self.thread.is_alive() and self._is_master_process():
            self.io_loop.add_callback(f)
        else:
            f()

    def _really_send(self, msg: Any, *args: Any, **kwargs: Any) -> None:
        """ZeroMQ tells of a subscription once, and a send at that moment swallows it: the host would wait for ever."""
        super()._really_send(msg, *args, **kwargs)
        if self._is_master_process() and self.socket is not None and self.socket.get(zmq.EVENTS) & zmq.POLLIN:
            self._xpub_stream.flush(zmq.POLLIN)

    def _setup_pipe_in(self) -> None:
        """For forked children. The stock one binds TCP, and libzmq aborts where only AF_UNIX is allowed."""
        self._pipe_uuid = os.urandom(16)
        pipe_in = self.socket.context.socket(zmq.PULL)
        pipe_in.linger = 0
        pipe_in.bind(self._pipe_endpoint)
        self._pipe_in = ZMQStream(pipe_in, self.io_loop)
        self._pipe_in.on_recv(self._handle_pipe_msg)

    def _setup_pipe_out(self) -> tuple[zmq.Context, zmq.Socket]:
        context = zmq.Context()
        pipe_out = context.socket(zmq.PUSH)
        pipe_out.linger = 3000
        pipe_out.connect(self._pipe_endpoint)
        return context, pipe_out


class NoSubshells:
    """Stands where ipykernel keeps its shell-channel thread: false, but with the one attribute `do_execute` reads."""

    parent_thread = threading.main_thread()

    def __bool__(self) -> bool:
        return False


class BoxKernel(IPythonKernel):
    """Runs cells, loads contexts, hands out values."""

    shell_class = Type(BoxShell)
    compiler_class: Any = Type(BoxCompiler)
    _execute_sleep = 0.0
    _supports_kernel_subshells = False
    scaffold: repl.Scaffold | None = None
    host: Host | None = None
    calls: Calls | None = None
    comm_id = ""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.ours: dict[str, Any] = {}
        for name in ("setup", "load", "value"):
            self.shell_handlers[f"airlock_{name}_request"] = getattr(self, f"{name}_request")

    def pre_handler_hook(self) -> None:
        """The stock one lets an interrupt hit what reads requests and writes replies, which loses them."""

    def post_handler_hook(self) -> None:
        pass

    def _publish_execute_input(self, code: str, parent: Any, execution_count: int) -> None:
        """The host knows the code it sent."""

    async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Run a cell; clip what is said of an error; send the answer if the cell gave one and ended well."""
        self.host.take_budget(self.get_parent("shell"))
        self.scaffold.restore()
        self.shell.begin_cell(code)
        kwargs.pop("store_history", None)
        try:
            with interruptible():
                reply = await super().do_execute(code, silent, False, **kwargs)
                reply = self.with_answer(code, reply)
        except (Exception, KeyboardInterrupt) as error:  # one whose own str() fails, or a late interrupt
            name = self.shell.error_name or type_name(error)
            trace = self.shell._last_traceback or []
            reply = {"status": "error", "ename": name, "evalue": "(no text)", "traceback": trace}
        self.shell.end_cell()
        if reply["status"] == "ok" and self.scaffold.final is not None:
            self.tell({"kind": "answer"}, self.scaffold.final)
        clipped: dict[str, Any] = self.shell.clip_reply(reply)
        return clipped

    def with_answer(self, code: str, reply: dict[str, Any]) -> dict[str, Any]:
        """The reply to a cell when its answer is taken: SUBMIT is no error, an `answer` that is no text is one."""
        if self.scaffold.submitted and reply.get("ename") == answers.Submitted.__name__:
            self.shell.error_line = 0
            reply = {"status": "ok"}
        if reply["status"] == "ok":
            try:
                self.scaffold.collect(code)
            except BaseException as error:  # the content's own code ran
                reply = failure(error) | {"traceback": []}
        return reply

    def finish_metadata(self, parent: Any, metadata: dict[str, Any], reply_content: Any) -> dict[str, Any]:
        """Tell the host the true sizes of what was clipped, and where an error was."""
        return {"airlock": self.shell.facts()}

    async def setup_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Take the host's settings: the comm's id, the functions of this run, the caps."""
        content = parent["content"]
        self.comm_id = content["comm_id"]
        self.host = host = Host(partial(self.calls.send, self.comm_id), self.tell, content["prompt_bytes"])
        self.calls.serve(host.on_message)
        self.scaffold = repl.Scaffold(host, content["functions"], content["answer_bytes"], content["rlm_query"])
        self.scaffold.values |= tools.functions(host, content["tools"])
        self.scaffold.namespace = self.shell.user_ns
        self.scaffold.values["SHOW_VARS"] = self.show_vars
        self.scaffold.restore()
        self.ours = dict(self.shell.user_ns)
        self.shell.output_chars = content["output_chars"]
        reply = {"status": "ok"}
        try:
            open_modules(content["module_dir"], content["modules"])
        except ValueError as error:
            reply = failure(error)
        self.send_response(stream, "airlock_setup_reply", reply, ident=ident)

    def tell(self, data: dict[str, Any], *buffers: bytes) -> None:
        """Send what has no answer: a comm message, in its order with the cell's output."""
        content = {"comm_id": self.comm_id, "data": data}
        self.session.send(self.iopub_socket, "comm_msg", content, parent=self.get_parent(), buffers=list(buffers))

    def show_vars(self) -> str:
        """The variables that the cells have made, by name, with their types and sizes."""
        return variables.told(self.shell.user_ns, self.ours)

    async def load_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Read a context file into a variable, or into several names for one."""
        content = parent["content"]
        names = [content["name"], *content.get("also", ())]
        for name in names:
            self.shell.user_ns.pop(name, None)  # before a second value takes as much memory
        try:
            memory_bytes, is_ascii = content.get("memory_bytes", 0), content.get("is_ascii", False)
            value = repl.read_context(content["path"], content["form"], memory_bytes, is_ascii)
        except Exception as error:
            reply = failure(error)
        else:
            self.shell.user_ns.update(dict.fromkeys(names, value))
            reply = {"status": "ok"}
        self.send_response(stream, "airlock_load_reply", reply, ident=ident)

    async def value_request(self, stream: Any, ident: Any, parent: dict[str, Any]) -> None:
        """Hand out a variable: as JSON, as answer text, or only whether it exists; or a list of all there are."""
        content = parent["content"]
        reply, buffers = self.export(content["name"], content["form"], content["max_bytes"])
        self.send_response(stream, "airlock_value_reply", reply, ident=ident, buffers=buffers)

    def export(self, name: str, form: str, max_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
        try:
            if form == "variables":
                return {"status": "ok"}, [variables.listing(self.shell.user_ns, self.ours)]
            value = answers.lookup(self.shell.user_ns, name)
            if form == "exists":
                return {"status": "ok"}, []
            raw = answers.json_text(value).encode() if form == "json" else answers.answer_raw(value, max_bytes)
            if len(raw) > max_bytes:
                raise answers.TooLarge(len(raw), max_bytes)
        except BaseException as error:  # the value's own code ran, and no reply would cost the box
            return failure(error), []
        return {"status": "ok"}, [raw]


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT raises in a cell, and nowhere else."""
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def failure(error: BaseException) -> dict[str, Any]:
    """A reply that says what went wrong, whatever the exception's own code does."""
    try:
        text = clip(str(error), 250)
    except BaseException:
        text = "(no text)"
    return {"status": "error", "ename": clip(type_name(error), 50), "evalue": text}


def type_name(error: BaseException) -> str:
    """The true name: a metaclass may have another one, or raise."""
    name: str = type.__dict__["__name__"].__get__(type(error))
    return name


def run(run_dir: str, ready_fd: int) -> None:
    """Serve until the process is killed. Writes one byte to `ready_fd` when the sockets are bound."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # only a running cell can be interrupted
    os.makedirs(run_dir, mode=0o700, exist_ok=True)
    context = zmq.Context()
    context.sndhwm = context.rcvhwm = 0
    sockets = []
    for kind, number in ((zmq.ROUTER, 1), (zmq.ROUTER, 2), (zmq.XPUB, 3)):
        sockets.append(context.socket(kind))
        sockets[-1].bind(endpoint(run_dir, number))
    shell_socket, control_socket, iopub_socket = sockets
    session = Session(key=b"")  # a key inside the box would prove nothing
    iopub_thread = BoxIOPubThread(iopub_socket, run_dir, session)
    iopub_thread.start()
    sys.stdout = BoxStream(session, iopub_thread, "stdout")
    sys.stderr = BoxStream(session, iopub_thread, "stderr")
    control_thread = ControlThread(daemon=True)
    control_stream = ZMQStream(control_socket, control_thread.io_loop)
    control_thread.start()
    kernel = BoxKernel.instance(
        config=quiet_config(),
        session=session,
        shell_stream=ZMQStream(shell_socket),
        control_stream=control_stream,
        control_thread=control_thread,
        shell_channel_thread=NoSubshells(),
        iopub_thread=iopub_thread,
        iopub_socket=iopub_thread.background_socket,
        log=quiet_log(),
        user_ns={},
    )
    kernel.calls = Calls(context, endpoint(run_dir, 5), endpoint(run_dir, 6))
    kernel.start()
    lean.leave()
    os.write(ready_fd, b"1")
    os.close(ready_fd)
    IOLoop.current().start()


def quiet_config() -> Config:
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.cache_size = 0
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Plain"
    return config


def quiet_log() -> logging.Logger:
    """Nobody reads a log in the box, and with one the stock kernel formats every message."""
    log = logging.getLogger("airlock.kernel")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    log.setLevel(logging.CRITICAL)
    return log
