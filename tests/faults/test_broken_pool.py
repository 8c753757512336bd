"""One pool of three cannot start; the others know nothing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio
from fault_settings import config, times

from snakepit_port.harness import CallError, Host, open_host


async def test_a_pool_whose_adapter_fails_to_import_holds_up_no_other(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import json\njson.loads('no json')\n")
    terms: dict[str, Any] = {
        "pools": [
            config(name="one")["pools"][0],
            config(name="broken", adapter="broken", python_path=[str(tmp_path)])["pools"][0],
            config(name="two")["pools"][0],
        ]
    }

    async def keep_calling(host: Host, pool: str) -> None:
        for number in times(200, 20_000):
            assert await host.call(pool, "add", [number, 1]) == number + 1

    async with open_host(terms) as host:
        with pytest.raises(CallError):
            await host.await_ready()
        async with trio.open_nursery() as nursery:
            for pool in ("one", "two") * 8:
                nursery.start_soon(keep_calling, host, pool)
            for _ in times(50, 1_000):
                with pytest.raises(CallError) as caught:
                    await host.call("broken", "add", [1, 2])
                error = caught.value
                assert (error.type, error.pool) == ("pool_unavailable", "broken")
                assert error.exception == "json.decoder.JSONDecodeError"
                assert "broken.py" in (error.traceback or "")
        pools = (await host.stats())["pools"]
        assert {name: pool["state"] for name, pool in pools.items()} == {
            "one": "ready",
            "two": "ready",
            "broken": "unavailable",
        }
        assert pools["one"]["errors"] == pools["two"]["errors"] == 0
