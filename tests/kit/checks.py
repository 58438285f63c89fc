"""What a call that refuses its input, or what is on disk, must do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from benchmark.errors import InputError, StoreError


def refused(call, *args, **kwargs) -> str:
    """The message of the InputError that the call raises: one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


@contextlib.contextmanager
def refusing(*words: str) -> Iterator[None]:
    """The block ends in a StoreError: one line that holds these words."""
    with pytest.raises(StoreError) as error:
        yield
    message = str(error.value)
    assert "\n" not in message
    for word in words:
        assert word in message
