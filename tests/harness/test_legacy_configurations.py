"""Configurations of Snakepit start, and serve calls; without pools, calls are told so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from snakepit_port.config.convert import convert_terms, convert_toml
from snakepit_port.harness import CallError, open_host

GRPC = "Snakepit.Adapters.GRPCPython"
ADAPTER = """
import os
from snakepit_port.adapter import command

class Adapter:
    @command
    def threads(self):
        return os.environ["OMP_NUM_THREADS"]
"""
TOML = f"""
pooling_enabled = true
adapter_module = "{GRPC}"
grpc_port = 50051
[pool_config]
pool_size = 1
python_path = ["."]
adapter_args = ["--adapter", "legacy_adapter.Adapter"]
[python_thread_limits]
omp = 3
"""
V05: dict[str, Any] = {
    "pooling_enabled": True,
    "adapter_module": f"Elixir.{GRPC}",
    "pool_config": [
        ("pool_size", 1),
        ("python_path", ["."]),
        ("adapter_args", ["--adapter", "legacy_adapter.Adapter"]),
    ],
    "python_thread_limits": {"omp": 3},
}
V06: dict[str, Any] = {
    "pools": [
        {
            "name": "default",
            "worker_profile": "process",
            "pool_size": 1,
            "adapter_module": f"Elixir.{GRPC}",
            "adapter_args": ["--adapter", "legacy_adapter.Adapter"],
            "adapter_env": [("OMP_NUM_THREADS", "3"), ("PYTHONPATH", ".")],
        }
    ]
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "legacy_adapter.py").write_text(ADAPTER)
    return tmp_path


async def served(config: Any, folder: Path) -> list[str]:
    """Has the configuration serve a call; returns the keys that were converted."""
    async with open_host(config, base_dir=folder, cwd=folder) as host:
        await host.await_ready()
        assert await host.call(None, "threads") == "3"
        return [change["key"] for change in host.info.get("converted", [])]


@pytest.mark.parametrize("config", [V05, V06], ids=["v0.5", "v0.6"])
async def test_terms(folder: Path, config: dict[str, Any]) -> None:
    assert await served(config, folder) != []
    (folder / "new.toml").write_text(convert_terms(config, folder)[0])
    assert await served(folder / "new.toml", folder) == []


async def test_toml(folder: Path) -> None:
    (folder / "old.toml").write_text(TOML)
    assert await served(folder / "old.toml", folder) == [
        *("pooling_enabled", "adapter_module", "grpc_port", "pool_config.pool_size"),
        *("pool_config.python_path", "pool_config.adapter_args", "python_thread_limits.omp"),
        "python_executable",
    ]
    (folder / "new.toml").write_text(convert_toml(folder / "old.toml")[0])
    assert await served(folder / "new.toml", folder) == []


@pytest.mark.parametrize("config", [{"pooling_enabled": False}, {**V05, "pooling_enabled": False}])
async def test_no_workers(folder: Path, config: dict[str, Any]) -> None:
    async with open_host(config, base_dir=folder) as host:
        assert await host.await_ready() == {}
        assert await host.workers() == []
        assert (await host.stats())["workers"] == 0
        with pytest.raises(CallError, match="pooling_enabled to false") as caught:
            await host.call(None, "threads")
        assert caught.value.type == "unknown_pool"
        assert host.info["pools"] == []
    assert host.exit_status == 0
