"""The model of `tests.lifecycle.driver`: three turns, one sub-call, and a box that dies and is replaced."""

from __future__ import annotations

REPLIES = [
    "```repl\nprint(len(context))\nreply = llm_query('What is it?', data=context[:200])\nprint(len(reply))\n```",
    "a short reply",
    "```repl\nimport os\nos.kill(os.getpid(), 9)\n```",
    "```repl\nFINAL(str(len(context)))\n```",
]
