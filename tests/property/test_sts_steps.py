"""Calls in any order: the paper's works, any other is refused and changes nothing, and failures
are final.
"""

import random
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from hypothesis import given, settings
from hypothesis import strategies as st

from iris.crypto.sts import Exchange, State
from iris.errors import ProtocolError, StateError
from tests.support.groups import generate_group

GROUP = generate_group(256, random.Random(1).randbytes)
KEY = generate_private_key(65537, 1024)  # short ones sign quickly

# The oracle: what may be called after which calls, spelled out rather than derived.
ALLOWED: dict[tuple[str, ...], set[str]] = {
    (): {"initiate", "accept"},
    ("initiate",): {"verify"},
    ("initiate", "verify"): {"secret"},
    ("accept",): {"finalize"},
    ("accept", "finalize"): {"secret"},
}
CALLS = ["initiate", "accept", "verify", "finalize", "secret"]


@settings(max_examples=150)
@given(
    st.lists(st.tuples(st.sampled_from(CALLS), st.booleans()), max_size=12), st.integers(0, 1 << 32)
)
def test_only_the_papers_order_works(calls: list[tuple[str, bool]], seed: int) -> None:
    rng = random.Random(seed)
    ours, theirs = (Exchange(KEY, GROUP, entropy=rng.randbytes) for _ in range(2))
    said: dict[str, tuple[int, bytes]] = {}  # what the other side answers to a good call
    done: tuple[str, ...] | None = ()  # None: failed

    def call(name: str, honest: bool) -> None:
        exponential, token = said.get("answer", (GROUP.generator, b""))
        steps: dict[str, Callable[[], object]] = {
            "initiate": lambda: said.update(answer=theirs.accept(ours.initiate())),
            "accept": lambda: said.update(
                answer=(0, theirs.verify(*ours.accept(theirs.initiate() if honest else 1)))
            ),
            "verify": lambda: theirs.finalize(
                ours.verify(exponential, token if honest else token[::-1])
            ),
            "finalize": lambda: ours.finalize(token if honest else token[:-1]),
            "secret": ours.secret,
        }
        if name == "accept" and ours.state is not State.CREATED:
            ours.accept(GROUP.generator)  # must be refused; the other side isn't bothered with it
        steps[name]()

    for name, honest in calls:
        allowed = ALLOWED[done] if done is not None else set()
        before = ours.state
        try:
            call(name, honest)
            outcome = "done"
        except StateError:
            outcome = "refused"
            assert ours.state is before
        except ProtocolError:
            outcome = "failed"
        if name not in allowed:
            assert outcome == "refused"
        elif honest or name in ("initiate", "secret"):
            assert outcome == "done"
            if name != "secret":
                done = (*(done or ()), name)
        else:
            assert outcome == "failed"
            assert ours.state is State.FAILED
            done = None
    if done is not None and "secret" in ALLOWED[done]:
        assert ours.secret() == theirs.secret()
