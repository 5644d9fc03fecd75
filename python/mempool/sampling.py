# SPDX-License-Identifier: Apache-2.0
"""Says which blocks are read with their checksum before an engine takes their bytes."""
import mempool

SAMPLE = 64  # one block in so many, where `verify` is "sampled"


def is_checked(block: mempool.BlockAddress, verify: str) -> bool:
    """Tell whether a block is to be checked under `agent.verify`, before it is copied."""
    if verify == "off":
        return False
    return verify == "always" or (block.index + block.generation) % SAMPLE == 0
