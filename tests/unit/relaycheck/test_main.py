"""relaycheck's command line.

What is wrong with it is told in words and by exit code 2, never by 1, which is for violations.
"""

import pytest

from iris.relaycheck.__main__ import main
from tests.support.node import free_port


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["node", "--only", "("], "'(' is not a regular expression"),
        (["node", "--skip", "["], "'[' is not a regular expression"),
        (["binding", "--only", "*", "true"], "'*' is not a regular expression"),
        (["node", "--jobs", "0"], "'0' is not a positive integer"),
        (["binding", "--timeout", "nan", "true"], "'nan' is not a number of seconds"),
        (["node", "--port", "0"], "'0' is not a port"),
    ],
)
def test_arguments_that_make_no_sense_are_told(
    args: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    assert words in capsys.readouterr().err


def test_without_a_node_that_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["node", "--port", str(free_port())]) == 2
    assert capsys.readouterr().err == "relaycheck: no node listens on that port\n"
