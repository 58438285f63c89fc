"""What a call that refuses its input must do."""

from __future__ import annotations

import pytest

from benchmark.errors import InputError


def refused(call, *args, **kwargs) -> str:
    """The message of the InputError that the call raises: one line."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message
