import threading

from iris.proto.iris.memberships import Memberships
from tests.support.waiting import wait_for


class FakeScribe:
    """Records its calls; without `release` set, a thread stays inside of the next one."""

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


def test_only_the_first_join_and_the_last_leave_reach_scribe() -> None:
    scribe = FakeScribe()
    table = scribe.memberships()
    for member in "abc":
        table.join("t", member)
    assert table.members["t"] == ("a", "b", "c")
    for member in "bac":
        table.leave("t", member)
    assert table.members == {}
    assert scribe.calls == [("+", "t"), ("-", "t")]


def test_leaving_what_one_isnt_in_changes_nothing() -> None:
    scribe = FakeScribe()
    table = scribe.memberships()
    table.leave("t", "a")
    table.join("t", "a")
    table.leave("t", "b")
    assert scribe.calls == [("+", "t")]


def test_readers_keep_the_members_that_they_looked_up() -> None:
    table = FakeScribe().memberships()
    table.join("t", "a")
    seen = table.members["t"]
    table.join("t", "b")
    assert seen == ("a",)


def test_joining_during_the_last_ones_leaving_is_effective_on_return() -> None:
    scribe = FakeScribe()
    table = scribe.memberships()
    table.join("t", "a")
    scribe.inside.clear()
    scribe.release.clear()
    leaving = threading.Thread(target=table.leave, args=("t", "a"))
    leaving.start()
    assert scribe.inside.wait(10)
    joining = threading.Thread(target=table.join, args=("t", "b"))
    joining.start()
    wait_for(lambda: "t" in table.members, what="a join")
    assert scribe.calls == [("+", "t"), ("-", "t")]
    scribe.release.set()
    joining.join(10)
    leaving.join(10)
    assert scribe.calls == [("+", "t"), ("-", "t"), ("+", "t")]


def test_leaving_does_not_wait() -> None:
    scribe = FakeScribe()
    table = scribe.memberships()
    scribe.release.clear()
    joining = threading.Thread(target=table.join, args=("t", "a"))
    joining.start()
    assert scribe.inside.wait(10)
    table.leave("t", "a")
    assert scribe.calls == [("+", "t")]
    scribe.release.set()
    joining.join(10)
    assert scribe.calls == [("+", "t"), ("-", "t")]


def test_another_topic_isnt_held_up() -> None:
    scribe = FakeScribe()
    table = scribe.memberships()
    scribe.release.clear()
    joining = threading.Thread(target=table.join, args=("t", "a"))
    joining.start()
    assert scribe.inside.wait(10)
    table.leave("u", "a")
    scribe.release.set()
    joining.join(10)
    table.join("u", "a")
    assert scribe.calls == [("+", "t"), ("+", "u")]


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
