"""What a cell needs to write messages of its own on the kernel's sockets."""

from __future__ import annotations

from typing import Final

FORGE: Final = (
    "import os, threading, time\nkernel = get_ipython().kernel\nsession, iopub = kernel.session, kernel.iopub_socket\n"
    "parent = kernel.get_parent()\ncomm_id = kernel.comm_id\n"
    "def send(kind, content=None, comm=comm_id, **k): session.send(iopub, kind, content or {}, parent=parent, **k)\n"
    "def ask(data, buffers, comm=comm_id):\n"
    "    content = {'comm_id': comm, 'data': data}\n"
    "    if data.get('kind') in ('answer', 'report'): send('comm_msg', content, buffers=buffers)\n"
    "    else: kernel.calls.send(comm, data, buffers)\n"
    "def reply(kind='execute_reply', **k):\n"
    "    ident = kernel._shell_parent_ident.get()\n"
    "    session.send(kernel.shell_stream.socket, kind, {'status': 'ok'}, parent=parent, ident=ident, **k)\n"
    "query = {'kind': 'query', 'id': '0' * 32, 'indexes': [0], 'has_data': [False]}\n"
)
FLOOD_OF_PROMPTS: Final = (
    "batch = {'kind': 'batch', 'indexes': [0] * 500, 'has_data': [False] * 500}\n"
    "while True: ask(batch | {'id': os.urandom(16).hex()}, [b''] * 500)"
)
"""To be run after `FORGE`."""
