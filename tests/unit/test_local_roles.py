"""The error of the local stack when the database does not answer its query for a role."""

from __future__ import annotations

import pytest

from deploy.local.process import StackError
from deploy.local.roles import may_set


def test_an_unavailable_database_is_one_sentence() -> None:
    with pytest.raises(StackError, match=r"^the database does not answer: [^\n]+$"):
        may_set("postgresql://name:word@127.0.0.1:1/none", "operator")
