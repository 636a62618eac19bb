"""Credit-based flow control for one direction of a tunnel, kept by either end. Core.

Not thread-safe: the owner has a lock. Sizes in bytes.
"""

GRANTS_PER_WINDOW = 16  # credit is granted in this many steps, not for every small message


class CreditWindow:
    """Count what the sender may still send, and what the receiver has yet to grant again.

    A sender calls `consume` and `grant` alone. A receiver also calls `release` for what it has
    processed, and `take_grant` for the credit that is worth a packet.
    """

    def __init__(self, size: int = 0) -> None:
        """Start with `size` bytes of credit."""
        self.size = size
        self.available = size  # negative when a sender may finish what it has begun
        self._grant_size = max(1, size // GRANTS_PER_WINDOW)
        self._pending_credit = 0  # released, but not granted yet

    def consume(self, count: int) -> None:
        """Use up credit: `count` bytes were sent."""
        self.available -= count

    def grant(self, count: int) -> None:
        """Add credit: `count` more bytes may be sent."""
        self.available += count

    def release(self, count: int) -> None:
        """Note that `count` received bytes no longer need space."""
        self._pending_credit += count

    def take_grant(self, needed: int = 0) -> int:
        """Grant the released bytes, when they are many or the sender has less than it needs.

        Args:
            needed: bytes of credit without which the sender cannot continue.
        Returns: the bytes to grant to the sender, 0 while a packet isn't worth it.
        """
        pending = self._pending_credit
        if not pending or (pending < self._grant_size and needed <= self.available):
            return 0
        self._pending_credit = 0
        self.available += pending
        return pending
