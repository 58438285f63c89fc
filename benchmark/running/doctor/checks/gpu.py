"""GPUs: whether PyTorch can use them, their free memory, and bf16."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from benchmark.running.doctor.finding import Finding, Place

PLACE = 2
_DRIVER = Path("/proc/driver/nvidia/version")
_LEAST_FREE = 0.5  # of a GPU's memory


def check(place: Place) -> Iterator[Finding]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what PyTorch warns of is a finding here
        available = torch.cuda.is_available()
    if not available:
        yield _without()
        return
    yield Finding("cuda", "ok", f"PyTorch's CUDA {torch.version.cuda}; {torch.cuda.device_count()} GPUs")
    for index in range(torch.cuda.device_count()):
        yield _gpu(index)


def _without() -> Finding:
    """Why PyTorch sees no GPU."""
    driver = _DRIVER.exists() or shutil.which("nvidia-smi") is not None
    if torch.version.cuda is None:
        text = f"PyTorch {torch.__version__} is built without CUDA: runs are on the CPU"
        if not driver:
            return Finding("cuda", "ok", text)
        return Finding("cuda", "bad", f"{text}, and there is an NVIDIA driver", "install PyTorch's build for CUDA")
    if not driver:
        return Finding("cuda", "ok", "no NVIDIA driver: runs are on the CPU")
    try:
        torch.cuda.init()
        reason = "no GPU is visible"
    except Exception as error:  # RuntimeError, or AssertionError, with the reason
        reason = " ".join(str(error).split())
    return Finding(
        "cuda",
        "bad",
        f"there is an NVIDIA driver, and PyTorch for CUDA {torch.version.cuda} cannot use it: {reason}",
        "install a PyTorch build for an older CUDA, or a newer driver; see that CUDA_VISIBLE_DEVICES names GPUs, and "
        "that the job asked for one",
    )


def _gpu(index: int) -> Finding:
    device = torch.device("cuda", index)
    name = f"gpu {index}"
    try:
        facts = torch.cuda.get_device_properties(device)
        free, total = torch.cuda.mem_get_info(device)
        computed = (torch.ones(2, device=device) + 1).sum().item()
        bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    except Exception as error:  # a GPU that is out of memory, too old for this build, or broken
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        return Finding(name, "bad", f"cannot compute: {reason}", "hide it with CUDA_VISIBLE_DEVICES, or free it")
    text = f"{facts.name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free, {'bf16' if bf16 else 'no bf16'}"
    if computed != 4:
        return Finding(name, "bad", f"{text}, and computes 1 + 1 wrongly", "do not use it")
    if not bf16:
        return Finding(name, "warn", text, "give --set recipe.amp=false: bf16 is emulated on it, and slow")
    if free < _LEAST_FREE * total:
        return Finding(name, "warn", text, "other processes use it: wait for them, or name another with --device")
    return Finding(name, "ok", text)
