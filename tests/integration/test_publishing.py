"""The producer of the how-to, run as written: what it sends is what ingest reads."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
from pathlib import Path

from services.ingest import vendors
from tests.support.callbacks import native_order
from tests.support.webhook_endpoint import ROOT, WebhookEndpointProcess

HOW_TO = (ROOT / "docs/how-to/publish-orders-yourself.md").read_text("utf-8")


def test_the_how_tos_producer_sends_what_ingest_reads(
    bootstrap_servers: str, tmp_path: Path
) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
    slug = f"t{secrets.token_hex(4)}"
    (tmp_path / "order.json").write_text(json.dumps(native_order(source=slug)), "utf-8")
    (tmp_path / "publish.py").write_text(program, "utf-8")
    with WebhookEndpointProcess(bootstrap_servers, slug, tmp_path) as log:
        subprocess.run(
            [sys.executable, "publish.py"],
            cwd=tmp_path,
            env={**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers},
            check=True,
            timeout=60,
        )
        (record,) = log.records()
    callback = vendors.parse(record)
    assert (callback.order_id, record.key) == (f"{slug}:727", f"{slug}:727".encode())
    assert [fact.name for fact in callback.facts] == ["storefront", "reached:completed"]


def test_the_how_tos_order_is_good() -> None:
    """What its reader copies first."""
    (order,) = re.findall(r"<<'END'\n(.*?)END\n", HOW_TO, re.DOTALL)
    report = json.loads(order)
    assert report["lines"][0]["quantity"] == 2
    answer = subprocess.run(
        [sys.executable, "-c", "from services.console.cli import main; main()", "check-event", "-"],
        input=order.encode(),
        capture_output=True,
        cwd=ROOT,
        check=False,
        timeout=60,
    )
    assert answer.returncode == 0
    assert (
        answer.stdout.decode().splitlines()[0]
        == "good: order myshop:727, with the facts storefront, reached:completed"
    )
