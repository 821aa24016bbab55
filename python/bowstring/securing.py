"""What secures a connection: the arguments that connections take, as they travel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bowstring.errors import InvalidArgument

#: A token, or what gives the newest one.
Token = str | Callable[[], str]
#: The arguments of a connection that may go to other processes: names, and paths of files that each reads by itself.
SECURITY_NAMES = ("tls_ca", "tls_cert", "tls_key", "tls_server_name", "token_file")


def security(
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_server_name: str | None,
    token_file: str | None,
    token: Token | None,
) -> dict[str, Any]:
    """The arguments by name, None for what is left out. Raises `InvalidArgument` for a token and a file of it."""
    if token is not None and token_file is not None:
        text = "token and token_file are both given; give one of them"
        raise InvalidArgument(text, "invalid_argument", False)
    values = (tls_ca, tls_cert, tls_key, tls_server_name, token_file)
    return {**dict(zip(SECURITY_NAMES, values, strict=True)), "token": token}


def travelling(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a connection's arguments that go to another process and are given.

    Raises `InvalidArgument` for a token: whoever sees the pickle or Spark's plan would see it.
    """
    if arguments.get("token") is not None:
        text = "what was given token= does not go to other processes, for the token would stand where others read it"
        text = f"{text}; give token_file=, which is a path, or set BOWSTRING_TOKEN_FILE there"
        raise InvalidArgument(text, "invalid_argument", False)
    return {name: value for name in SECURITY_NAMES if (value := arguments.get(name)) is not None}
