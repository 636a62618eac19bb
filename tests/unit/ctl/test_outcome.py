"""Exit codes."""

from iris.ctl.outcome import Exit, worse


def test_a_fault_outweighs_a_timeout() -> None:
    assert worse(Exit.OK, Exit.TIMEOUT) is Exit.TIMEOUT
    assert worse(Exit.FAULT, Exit.TIMEOUT) is Exit.FAULT
    assert worse(Exit.OK, Exit.OK) is Exit.OK
