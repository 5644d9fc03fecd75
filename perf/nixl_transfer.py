#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Owns the measurement of NIXL over UCX: the lists of `mempool perf transfer --op write`.

Two processes on this machine: one writes scattered blocks of its memory into scattered blocks of
the other's. GB/s counts 1e9 bytes from the post to the moment the initiator sees it done. Prints
one row with the fields that `mempool perf transfer --json -` gives, as far as NIXL has them.
"""
import argparse
import json
import mmap
import multiprocessing
import os
import statistics
import sys
import time

MIB = 1 << 20


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--piece-bytes", type=int, default=32768)
    parser.add_argument("--pieces", type=int, default=0, help="0: 256 MiB, at most 16384 pieces")
    parser.add_argument("--repeat", type=int, default=9)
    return parser.parse_args()


def allocate(size):
    memory = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    view = numpy.frombuffer(memory, dtype=numpy.uint8)
    view[:] = 0  # touch every page before anything is timed
    return memory, view


def make_agent(name, progress_thread):
    from nixl._api import nixl_agent, nixl_agent_config

    return nixl_agent(name, nixl_agent_config(enable_prog_thread=progress_thread,
                                              enable_listen_thread=False, backends=["UCX"]))


def descriptors(base, order, piece_bytes):
    result = numpy.zeros((len(order), 3), dtype=numpy.uint64)
    result[:, 0] = base + order.astype(numpy.uint64) * numpy.uint64(piece_bytes)
    result[:, 1] = piece_bytes
    return result


def source_order(pieces):
    return numpy.random.default_rng(1).permutation(pieces)


def target_order(pieces):
    return numpy.arange(pieces) * 2  # every other block: no two are neighbours


def run_target(channel, piece_bytes, pieces):
    agent = make_agent("target", True)
    memory, view = allocate(2 * pieces * piece_bytes)
    agent.register_memory([(view.ctypes.data, len(view), 0, "")], "DRAM")
    channel.send((agent.get_agent_metadata(), view.ctypes.data))
    agent.add_remote_agent(channel.recv())
    while channel.recv() == "check":
        words = view.view(numpy.uint64).reshape(2 * pieces, piece_bytes // 8)
        channel.send(bool((words[target_order(pieces), 0] == source_order(pieces)).all()))
    os._exit(0)  # the backend's threads do not end by themselves


def run_row(piece_bytes, pieces, repeat):
    channel, other = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(
        target=run_target, args=(other, piece_bytes, pieces), daemon=True)
    child.start()
    agent = make_agent("source", False)
    memory, view = allocate(pieces * piece_bytes)
    view.view(numpy.uint64).reshape(pieces, piece_bytes // 8)[:, 0] = numpy.arange(pieces)
    agent.register_memory([(view.ctypes.data, len(view), 0, "")], "DRAM")
    metadata, base = channel.recv()
    channel.send(agent.get_agent_metadata())
    peer = agent.add_remote_agent(metadata)
    peer = peer.decode() if isinstance(peer, bytes) else peer
    agent.make_connection(peer)

    started = time.perf_counter()
    local = agent.prep_xfer_dlist(
        "NIXL_INIT_AGENT", descriptors(view.ctypes.data, source_order(pieces), piece_bytes), "DRAM")
    remote = agent.prep_xfer_dlist(
        peer, descriptors(base, target_order(pieces), piece_bytes), "DRAM")
    prepare_us = 1e6 * (time.perf_counter() - started)
    indices = numpy.arange(pieces, dtype=numpy.int32)
    samples, posts = [], []
    for number in range(repeat + 1):
        transfer = agent.make_prepped_xfer("WRITE", local, indices, remote, indices,
                                           b"%d" % number)
        started = time.perf_counter()
        state = agent.transfer(transfer)
        posted = time.perf_counter()
        while state == "PROC":
            state = agent.check_xfer_state(transfer)
        ended = time.perf_counter()
        if state != "DONE":
            sys.exit(f"nixl_transfer: the transfer ended as {state}")
        agent.release_xfer_handle(transfer)
        if number > 0:  # the first one warms up
            samples.append(1e-9 * pieces * piece_bytes / (ended - started))
            posts.append(1e6 * (posted - started))
    channel.send("check")
    if not channel.recv():
        sys.exit("nixl_transfer: the target does not hold what was sent")
    channel.send("end")
    child.join(5)
    return {"transport": "nixl-ucx-" + os.environ["UCX_TLS"], "op": "write",
            "pattern": "scattered", "piece_bytes": piece_bytes, "pieces": pieces,
            "gb_per_s": {"min": min(samples), "median": statistics.median(samples),
                         "max": max(samples)},
            "prepare_us": prepare_us, "post_us": statistics.median(posts)}


def main():
    arguments = parse_arguments()
    pieces = arguments.pieces or min(16384, 256 * MIB // arguments.piece_bytes)
    print(json.dumps(run_row(arguments.piece_bytes, pieces, arguments.repeat)), flush=True)
    os._exit(0)  # as in the target


if __name__ == "__main__":
    # Read by UCX when it is loaded; without them it would take shared memory on one host.
    os.environ.setdefault("UCX_TLS", "tcp")
    os.environ.setdefault("UCX_NET_DEVICES", "lo")
    os.environ.setdefault("NIXL_LOG_LEVEL", "ERROR")
    import numpy

    main()
