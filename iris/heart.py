"""Signs of life: who has been silent for too long.

Counterpart of Go's heart/heart.go and entity.go. Only the counting is here; whoever owns a `FailureDetector`
calls `tick` once per beat, and guards it with the lock that it guards its own state with.
"""

from typing import Generic, TypeVar

from iris.errors import StateError

Entity = TypeVar("Entity", bound=int)


class FailureDetector(Generic[Entity]):
    """Core: the monitored entities, each with the tick of its latest sign of life. Not thread-safe."""

    def __init__(self, max_missed: int) -> None:
        """Report as dead whoever was silent for `max_missed` ticks."""
        self._kill_count = max_missed
        self._now = 0
        self._seen: dict[Entity, int] = {}

    def __contains__(self, entity: Entity) -> bool:
        return entity in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def monitor(self, entity: Entity) -> None:
        """Watch an entity from now on. Raises: StateError when it is watched already."""
        if entity in self._seen:
            raise StateError(f"{entity} is monitored already")
        self._seen[entity] = self._now

    def unmonitor(self, entity: Entity) -> None:
        """Forget an entity. Raises: StateError for a stranger."""
        if self._seen.pop(entity, None) is None:
            raise StateError(f"{entity} isn't monitored")

    def ping(self, entity: Entity) -> None:
        """Note a sign of life. Raises: StateError for a stranger."""
        if entity not in self._seen:
            raise StateError(f"{entity} isn't monitored")
        self._seen[entity] = self._now

    def tick(self) -> list[Entity]:
        """One beat has passed.

        The dead in ascending order, at every tick until they are unmonitored or pinged.
        """
        self._now += 1
        latest = self._now - self._kill_count
        return sorted(entity for entity, seen in self._seen.items() if seen <= latest)
