# SPDX-License-Identifier: Apache-2.0
"""Owns the memory behind vLLM's KV cache: a sealed memfd, which the agent maps as it is.

vLLM lets a connector say where its KV cache is allocated (`get_mem_pool_context`). Here the
factory calls inside that context are answered with tensors on a descriptor, so that the agent, in
another process than the ranks, reads the tensors themselves.
"""
import fcntl
import mmap
import os
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

import mempool
from mempool.vllm_shape import KvShape, refuse

FACTORIES = (torch.zeros, torch.empty)


class KvMemory(TorchFunctionMode):
    """Answers torch.zeros and torch.empty on the CPU with memory on a descriptor.

    Used as a context by vLLM. Holds what it gave until close(). Thread: confined to the worker's.
    """

    def __init__(self) -> None:
        super().__init__()
        self._given: list[tuple[torch.Tensor, int]] = []  # flat bytes, and their descriptor

    def __torch_function__(self, function: Any, types: Any, args: Any = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        kwargs = kwargs or {}
        if function not in FACTORIES:
            return function(*args, **kwargs)
        device = torch.device(kwargs.get("device") or "cpu")
        if device.type != "cpu":
            return function(*args, **kwargs)
        wanted = function(*args, **{**kwargs, "device": "meta"})
        return self._allocate(wanted.nbytes).view(wanted.dtype).view(wanted.shape)

    def _allocate(self, size: int) -> torch.Tensor:
        descriptor = os.memfd_create("mempool-vllm", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
            mapping = mmap.mmap(descriptor, size)
            mapping.madvise(mmap.MADV_DONTFORK)  # a child's stray write must not land in the cache
            flat = torch.frombuffer(mapping, dtype=torch.uint8)  # holds the mapping
        except BaseException:
            os.close(descriptor)
            raise
        self._given.append((flat, descriptor))
        return flat

    def close(self) -> None:
        """Close the descriptors. Tensors stay valid for as long as they are held."""
        for _, descriptor in self._given:
            os.close(descriptor)
        self._given.clear()

    def behind(self, tensor: torch.Tensor) -> tuple[torch.Tensor, int] | None:
        """Give the flat memory in which a tensor begins, and its descriptor."""
        address = tensor.data_ptr()
        for flat, descriptor in self._given:
            if flat.data_ptr() <= address < flat.data_ptr() + flat.nbytes:
                return flat, descriptor
        return None


def check_page(name: str, tensor: torch.Tensor, shape: KvShape) -> None:
    """Raise ValueError where a layer's tensor [blocks, heads, tokens, elements] is none of ours."""
    if tensor.device.type != "cpu":
        refuse(f"{name} is on {tensor.device}, and this release adopts host memory only",
               "run vLLM on a CPU")
    element = str(tensor.dtype).removeprefix("torch.")
    if element != shape.element:
        refuse(f"{name} is of {element}, and the configuration says {shape.element}",
               "give every layer the same --kv-cache-dtype")
    wanted = (shape.blocks, shape.heads, shape.block_tokens, shape.vector_elements)
    if tuple(tensor.shape) != wanted:
        refuse(f"{name} is of [blocks, heads, tokens, elements] {list(tensor.shape)}, and the "
               f"configuration says {list(wanted)}",
               "give a --block-size that the attention backend takes undivided")
    page = tensor[0]
    if shape.order == mempool.TokenOrder.TOKEN_HEAD:
        page = page.transpose(0, 1)
    if not page.is_contiguous():
        refuse(f"a block of {name} is not contiguous in {shape.order.name} order, its strides are "
               f"{tensor.stride()}", "set VLLM_KV_CACHE_LAYOUT=LBHNC")


def adopted_memory(tensors: dict[str, torch.Tensor], shape: KvShape,
                   memory: KvMemory) -> mempool.AdoptedMemory:
    """Give the layers of one rank as memory to adopt, with the strides by which they lie.

    Errors: ValueError naming the layer that is of another shape, or lies elsewhere.
    """
    missing = [name for name in shape.layers if name not in tensors]
    if missing:
        refuse(f"the engine registered no tensor for {missing[0]}", "serve a plain decoder")
    layers = [tensors[name] for name in shape.layers]
    for name, tensor in zip(shape.layers, layers):
        check_page(name, tensor, shape)
    placed = memory.behind(layers[0])
    if placed is None:
        refuse("the KV cache does not lie in memory on a descriptor", "let mempool's connector "
               "allocate it: the engine must run get_mem_pool_context(), as vLLM's runner does")
    flat, descriptor = placed
    addresses = [tensor.data_ptr() for tensor in layers]
    steps = {after - before for before, after in zip(addresses, addresses[1:])}
    block_stride = layers[0].stride(0) * layers[0].element_size()
    apart = {tensor.stride(0) * tensor.element_size() for tensor in layers} != {block_stride}
    end = addresses[-1] + (shape.blocks - 1) * block_stride + shape.page_bytes
    if len(steps) > 1 or apart or end > flat.data_ptr() + flat.nbytes:
        refuse("the layers do not lie at equal distances", "serve a model whose layers are alike")
    return mempool.AdoptedMemory(
        data=flat[addresses[0] - flat.data_ptr():], descriptor=descriptor,
        block_stride=block_stride, layer_stride=steps.pop() if steps else 0,
        part_stride=shape.page_bytes // 2 if shape.parts == 2 else 0)
