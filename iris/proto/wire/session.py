"""Packets of the classic session handshake. Counterpart of Go's proto/session/handshake.go."""

from dataclasses import dataclass

from iris.gobber.types import BIG_INT, BYTES, INT, PointerTo, gob, struct


@struct("authRequest")
@dataclass(slots=True)
class AuthRequest:
    """The initiator's exponential."""

    exp: int | None = gob("Exp", BIG_INT)


@struct("authChallenge")
@dataclass(slots=True)
class AuthChallenge:
    """The acceptor's exponential, and its token."""

    exp: int | None = gob("Exp", BIG_INT)
    token: bytes = gob("Token", BYTES)


@struct("authResponse")
@dataclass(slots=True)
class AuthResponse:
    """The initiator's token."""

    token: bytes = gob("Token", BYTES)


@struct("linkRequest", registered="*session.linkRequest")
@dataclass(slots=True)
class LinkRequest:
    """The number that assigns a data connection to its control link."""

    id: int = gob("Id", INT)


@struct("initRequest")
@dataclass(slots=True)
class InitRequest:
    """A connection's first packet: `auth` on the control connection, `link` on the data one."""

    auth: AuthRequest | None = gob("Auth", PointerTo(AuthRequest))
    link: LinkRequest | None = gob("Link", PointerTo(LinkRequest))
