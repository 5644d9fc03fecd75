# SPDX-License-Identifier: Apache-2.0
"""Gives vLLM its connector to mempool: `"kv_connector_module_path": "mempool.vllm"`.

vLLM itself is imported with the class `MempoolConnector` only, so that the parts that decide what
a block is can be used and tested without it. docs/vllm.md says how to run it.
"""
from typing import Any

__all__ = ["MempoolConnector"]


def __getattr__(name: str) -> Any:
    if name != "MempoolConnector":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from mempool.vllm_connector import MempoolConnector

    return MempoolConnector
