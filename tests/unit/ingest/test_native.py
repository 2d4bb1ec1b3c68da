"""A storefront's own orders at the door: its signature is the one that Standard Webhooks describes."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from services.ingest.sources import native
from services.ingest.sources.source import Delivery
from tests.support.callbacks import native_order

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to" / "publish-orders-yourself.md"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the page's lines sign with openssl")
def test_the_lines_that_sign_for_the_door_are_let_in(tmp_path: Path) -> None:
    """As they stand, but for curl, whose arguments are what is judged."""
    (lines,) = re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    order = json.dumps(native_order(source="myshop"), indent=1)  # over several lines, as people write it
    (tmp_path / "order.json").write_text(order + "\n", "utf-8")
    (tmp_path / "curl").write_text('#!/bin/sh\nfor it in "$@"; do printf "%s\\0" "$it"; done > told\n', "utf-8")
    (tmp_path / "curl").chmod(0o755)
    (tmp_path / "uuidgen").write_text("#!/bin/sh\necho 0193f1a0-0000-7000-8000-000000000001\n", "utf-8")
    (tmp_path / "uuidgen").chmod(0o755)
    secret = "a secret of the storefront"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MYSHOP_SECRET": secret}
    subprocess.run(["sh", "-ec", lines], cwd=tmp_path, env=environment, check=True)
    told = (tmp_path / "told").read_bytes().split(b"\0")
    sent = [told[at + 1].partition(b": ") for at, it in enumerate(told) if it == b"-H"]
    body = told[told.index(b"--data-raw") + 1]
    delivery = Delivery({name: text for name, _, text in sent}, body, [secret.encode()], time.time())
    assert native.verify(delivery)
    assert not native.verify(delivery._replace(secrets=[b"another secret of it"]))
    assert native.event_id(delivery) == "0193f1a0-0000-7000-8000-000000000001"
    assert native.orders(native.unwrapped(body)) == ("727",)


def test_a_secret_as_the_libraries_of_standard_webhooks_write_it() -> None:
    """Their specification's own example of a secret, and a signature made by its steps here."""
    key = native.key_of("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert key == base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    body = b'{"test": 2432232314}'
    made = native.signature(key, b"msg_p5jXN8AQM9LWM0D4loKWxJek", b"1614265330", body)
    assert made == b"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    with pytest.raises(ValueError, match="no base64 follows"):
        native.key_of("whsec_***")
