"""gob, the wire format of all traffic between nodes: types, streams and datagrams.

Counterpart of Go's encoding/gob, and of Iris' gobber package. Leaves out what Iris' packets don't
use: sending arrays, complex numbers and types that encode themselves other than big.Int (they are
parsed, and skipped).

    types        how a type is declared
    framing      integers and messages, as schemas and as code
    definitions  how types are defined on a stream, and numbered
    writers      generated encoders        encoder    a sending stream
    readers      generated decoders        decoder    a receiving stream, with skipping
    datagrams    gob without definitions
"""

from iris.gobber.datagrams import Datagrams
from iris.gobber.decoder import Decoder
from iris.gobber.encoder import Encoder
from iris.gobber.framing import GobError, bytes_prefix, encode_uint, peek_bytes, peek_uint

__all__ = ["Datagrams", "Decoder", "Encoder", "GobError"]
__all__ += ["bytes_prefix", "encode_uint", "peek_bytes", "peek_uint"]
