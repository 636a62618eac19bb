import threading

from iris.proto.iris.memberships import Memberships
from tests.support.waiting import wait_for


class Told:
    """What scribe was told; `hold` keeps a thread inside of the next call until released."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.inside, self.release = threading.Event(), threading.Event()
        self.release.set()

    def _call(self, kind: str, topic: str) -> None:
        self.calls.append((kind, topic))
        self.inside.set()
        assert self.release.wait(10)

    def memberships(self) -> Memberships[str]:
        return Memberships(
            lambda topic: self._call("+", topic), lambda topic: self._call("-", topic)
        )


def test_scribe_is_told_of_the_first_and_the_last_member_only() -> None:
    told = Told()
    table = told.memberships()
    for member in "abc":
        table.join("t", member)
    assert table.members["t"] == ("a", "b", "c")
    for member in "bac":
        table.leave("t", member)
    assert table.members == {}
    assert told.calls == [("+", "t"), ("-", "t")]


def test_leaving_what_one_isnt_in_changes_nothing() -> None:
    told = Told()
    table = told.memberships()
    table.leave("t", "a")
    table.join("t", "a")
    table.leave("t", "b")
    assert told.calls == [("+", "t")]


def test_readers_keep_the_members_that_they_looked_up() -> None:
    table = Told().memberships()
    table.join("t", "a")
    seen = table.members["t"]
    table.join("t", "b")
    assert seen == ("a",)


def test_joining_during_the_last_ones_leaving_is_effective_on_return() -> None:
    told = Told()
    table = told.memberships()
    table.join("t", "a")
    told.inside.clear()
    told.release.clear()
    leaving = threading.Thread(target=table.leave, args=("t", "a"))
    leaving.start()
    assert told.inside.wait(10)
    joining = threading.Thread(target=table.join, args=("t", "b"))
    joining.start()
    wait_for(lambda: "t" in table.members, what="a join")
    assert told.calls == [("+", "t"), ("-", "t")]
    told.release.set()
    joining.join(10)
    leaving.join(10)
    assert told.calls == [("+", "t"), ("-", "t"), ("+", "t")]


def test_leaving_waits_for_nobody() -> None:
    told = Told()
    table = told.memberships()
    told.release.clear()
    joining = threading.Thread(target=table.join, args=("t", "a"))
    joining.start()
    assert told.inside.wait(10)
    table.leave("t", "a")
    assert told.calls == [("+", "t")]
    told.release.set()
    joining.join(10)
    assert told.calls == [("+", "t"), ("-", "t")]


def test_another_topic_isnt_held_up() -> None:
    told = Told()
    table = told.memberships()
    told.release.clear()
    joining = threading.Thread(target=table.join, args=("t", "a"))
    joining.start()
    assert told.inside.wait(10)
    table.leave("u", "a")
    told.release.set()
    joining.join(10)
    table.join("u", "a")
    assert told.calls == [("+", "t"), ("+", "u")]


def test_scribes_failure_leaves_the_topic_usable() -> None:
    failures = [RuntimeError("our bug")]

    def subscribe(topic: str) -> None:
        if failures:
            raise failures.pop()

    table: Memberships[str] = Memberships(subscribe, lambda topic: None)
    try:
        table.join("t", "a")
    except RuntimeError:
        pass
    else:
        raise AssertionError("swallowed")
    table.join("t", "b")
    assert table.members["t"] == ("a", "b")
