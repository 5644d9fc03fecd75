#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes build/venv-vllm, in which the connectors to vLLM and SGLang are tested on a CPU: 8 GB.
#
# Both come from PyPI without what they need on a GPU, and then with what their schedulers and
# storage classes import. An environment that imports both is left as it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=build/venv-vllm
vllm=vllm==0.33.0
sglang=sglang==0.5.23
# What they import, of what they name as needed.
imported=(
  regex cachetools psutil sentencepiece requests tqdm blake3 py-cpuinfo protobuf
  'fastapi[standard]<0.137.0,>=0.133.0' aiohttp openai orjson prometheus_client pillow
  prometheus-fastapi-instrumentator tiktoken lm-format-enforcer==0.11.3 'llguidance<1.8.0,>=1.7.0'
  outlines_core==0.2.14 lark==1.2.2 partial-json-parser jsonschema pyzmq msgspec
  'mistral_common[image]' opencv-python-headless pyyaml einops compressed-tensors==0.17.0
  depyf==0.20.0 cloudpickle watchfiles python-json-logger pybase64 cbor2 ijson setproctitle
  oss-harmony anthropic 'model-hosting-container-standards<1.0.0,>=0.1.14' 'mcp<3.0.0,>=2.2.0'
  opentelemetry-sdk opentelemetry-api numba==0.65.0 ipython
)

imports() {
  [[ -x $venv/bin/python ]] && HF_HUB_OFFLINE=1 "$venv/bin/python" -c '
import pytest
import vllm.v1.core.sched.scheduler
import sglang.srt.mem_cache.storage.backend_factory' >/dev/null 2>&1
}

imports && exit
echo "vllm-venv: installing $vllm and $sglang into $venv"
python3 -m venv "$venv"
pip() { nice "$venv/bin/pip" install --quiet "$@"; }
pip --upgrade pip
pip torch 'transformers<5.21,>=5.16.1' pytest numpy
pip "${imported[@]}"
pip --no-deps "$vllm" "$sglang" xgrammar==0.2.8 apache-tvm-ffi==0.1.11
imports || {
  echo "vllm-venv: vllm and sglang do not import; run their imports in $venv to see why" >&2
  exit 1
}
