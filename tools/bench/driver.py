"""A driver's process: `python -m tools.bench.driver ROLE JSON`.

Loads nothing but the standard library.

It prints "ready" in a line when it's attached, and its results in another, as JSON. Roles that
serve go on until they're killed.
"""

import gc
import json
import sys
from collections.abc import Callable
from typing import Any

from tools.bench import asking, attaching, events, machine, many, tunnels
from tools.bench.wire import Failure

Facts = dict[str, Any]
ROLES: dict[str, Callable[..., Facts]] = {
    "ask": asking.ask,
    "serve": asking.serve,
    "reach": asking.reach,
    "send": events.send,
    "receive": events.receive,
    "tunnel-echo": tunnels.echo,
    "tunnel-answer": tunnels.answer,
    "tunnel-pour": tunnels.pour,
    "tunnel-drain": tunnels.drain,
    "attach": attaching.attach,
    "crowd": attaching.crowd,
    "ask-in-turn": many.ask_in_turn,
    "ask-on": many.ask_on,
    "send-topics": many.send_topics,
    "receive-topics": many.receive_topics,
    "machine": machine.measure,
}


def main(role: str, options: str) -> int:
    """Play a role. Returns: the exit code, 1 when the node failed."""
    gc.disable()  # nothing here makes cycles
    try:
        facts = ROLES[role](**json.loads(options))
    except (Failure, OSError) as exc:
        print(json.dumps({"error": f"{role}: {exc}"}), flush=True)
        return 1
    print(json.dumps(facts), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
