"""Against Go's own encoding/gob.

Values of all packets and of random types, each way, without a difference.

Types of all kinds follow each other on one stream, so that definitions meet each other in every
order.
"""

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from iris.gobber import Decoder, Encoder
from iris.gobber.types import GobType, PointerTo
from tests.support.gob_family import Family, Values, spell

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(shutil.which("go") is None, reason="no go compiler on the path"),
]

SEED = 20_260_417
STREAMS, VALUES = 16, 1_300  # 20,800 values each way
FAMILY = Family(SEED, 40, "T")
PLAIN = Family(SEED + 1, 40, "P", plain=True)
TYPES = FAMILY.types()


def build(root: Path, family: Family) -> Path:
    """The Go program, with this family's types."""
    shutil.copytree(Path(__file__).parent / "src", root / "src")
    (root / "src" / "family").mkdir()
    (root / "src" / "family" / "types.go").write_text(family.go_source())
    environment = {**os.environ, "GOPATH": str(root), "GO111MODULE": "off", "GOFLAGS": ""}
    subprocess.run(
        ["go", "build", "-o", root / "gobcheck", "gobcheck"],
        env=environment,
        check=True,
        timeout=100,
    )
    return root / "gobcheck"


@pytest.fixture(scope="module")
def gobcheck(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("gopath"), FAMILY)


def kind_of(type_: GobType) -> type | GobType:
    return type_.struct if isinstance(type_, PointerTo) else type_


def test_go_reads_what_we_write(gobcheck: Path, tmp_path: Path) -> None:
    rng = random.Random(SEED)
    values = Values(rng, FAMILY)
    said: list[list[str]] = []
    for stream in range(STREAMS):
        encoder, places = Encoder(), [rng.randrange(len(TYPES)) for _ in range(VALUES)]
        made = [values.make(TYPES[place]) for place in places]
        (tmp_path / f"py{stream}.index").write_text("".join(f"{place}\n" for place in places))
        (tmp_path / f"py{stream}.gob").write_bytes(
            b"".join(
                encoder.encode(value, TYPES[place])
                for place, value in zip(places, made, strict=True)
            )
        )
        said.append([spell(TYPES[place], value) for place, value in zip(places, made, strict=True)])
    subprocess.run([gobcheck, "read", tmp_path], check=True, timeout=60)
    for stream in range(STREAMS):
        assert (tmp_path / f"py{stream}.seen").read_text().splitlines() == said[stream]


def test_we_read_what_go_writes(gobcheck: Path, tmp_path: Path) -> None:
    subprocess.run(
        [gobcheck, "write", tmp_path, str(SEED), str(STREAMS), str(VALUES)], check=True, timeout=60
    )
    rng = random.Random(SEED)
    for stream in range(STREAMS):
        data = (tmp_path / f"go{stream}.gob").read_bytes()
        places = [int(line) for line in (tmp_path / f"go{stream}.index").read_text().split()]
        decoder, seen, offset = Decoder(max_size=1 << 24, max_types=1_000), [], 0
        for place in places:
            while (value := decoder.next(kind_of(TYPES[place]))) is None:
                assert offset < len(data)
                size = rng.choice((1, 10, 100, 1_000, 10_000))
                decoder.feed(data[offset : offset + size])
                offset += size
            seen.append(spell(TYPES[place], value))
        assert seen == (tmp_path / f"go{stream}.said").read_text().splitlines()
        assert offset >= len(data)
        assert decoder.take_rest() == b""


def test_we_write_the_bytes_that_go_writes(tmp_path: Path) -> None:
    # a fresh process, since Go numbers types once per process
    subprocess.run(
        [build(tmp_path, PLAIN), "write", tmp_path, "1", "1", "2000"], check=True, timeout=60
    )
    types = PLAIN.types()
    decoder, encoder = Decoder(max_size=1 << 24, max_types=1_000), Encoder()
    data = (tmp_path / "go0.gob").read_bytes()
    decoder.feed(data)
    ours = bytearray()
    for line in (tmp_path / "go0.index").read_text().split():
        type_ = types[int(line)]
        ours += encoder.encode(decoder.next(kind_of(type_)), type_)
    assert bytes(ours) == data
