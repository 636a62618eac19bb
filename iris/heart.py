"""Failure detection: which monitored entities have been silent for too long.

Counterpart of Go's heart/heart.go and entity.go. Only the counting is here: the owner calls `tick`
once per beat, and guards a `FailureDetector` with the lock of its own state.
"""

from typing import Generic, TypeVar

from iris.errors import StateError

Entity = TypeVar("Entity", bound=int)


class FailureDetector(Generic[Entity]):
    """Core: the monitored entities, each with the tick of its latest ping. Not thread-safe."""

    def __init__(self, max_missed: int) -> None:
        """Report an entity as dead once it was silent for `max_missed` ticks."""
        self._max_missed = max_missed
        self._now = 0
        self._seen: dict[Entity, int] = {}

    def __contains__(self, entity: Entity) -> bool:
        return entity in self._seen

    def __len__(self) -> int:
        return len(self._seen)

    def monitor(self, entity: Entity) -> None:
        """Monitor an entity from now on. Raises: StateError when it is monitored already."""
        if entity in self._seen:
            raise StateError(f"{entity} is already monitored")
        self._seen[entity] = self._now

    def unmonitor(self, entity: Entity) -> None:
        """Forget an entity. Raises: StateError when it isn't monitored."""
        if self._seen.pop(entity, None) is None:
            raise StateError(f"{entity} isn't monitored")

    def ping(self, entity: Entity) -> None:
        """Note a sign of life. Raises: StateError when the entity isn't monitored."""
        if entity not in self._seen:
            raise StateError(f"{entity} isn't monitored")
        self._seen[entity] = self._now

    def tick(self) -> list[Entity]:
        """Count a beat.

        Returns: the dead in ascending order, at every tick until they are unmonitored or pinged.
        """
        self._now += 1
        latest = self._now - self._max_missed
        return sorted(entity for entity, seen in self._seen.items() if seen <= latest)
