"""How much faster Laurel's float32 products are than torch's own on this processor.

PYTHONPATH=. python benchmarks/products.py
"""

import time
from collections.abc import Callable

import torch

from laurel.policy import products

SHAPES = ((8, 256, 1536), (128, 256, 1536), (4064, 256, 1536), (4064, 768, 256))
REPETITIONS = 20


def seconds(product: Callable[[], torch.Tensor]) -> float:
    """The fastest of some calls."""
    fastest = float("inf")
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        product()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


@torch.inference_mode()
def main() -> None:
    """Print one line per shape: rows, inputs, outputs."""
    print(f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads")
    for rows, inputs, outputs in SHAPES:
        x, weight, gradient = (torch.randn(*shape) for shape in ((rows, inputs), (outputs, inputs), (rows, outputs)))
        forward = seconds(lambda x=x, w=weight: x @ w.T) / seconds(lambda x=x, w=weight: products.linear(x, w))
        prepared = products.PreparedWeight(weight)
        again = seconds(lambda x=x, w=weight: x @ w.T) / seconds(lambda x=x, p=prepared: p.linear(x))
        backward = seconds(lambda x=x, g=gradient: g.T @ x) / seconds(
            lambda x=x, g=gradient: products.weight_gradient(g, x)
        )
        print(
            f"{rows:5} x {inputs} x {outputs}: forward {forward:.1f} times faster, prepared {again:.1f}, "
            f"weight gradient {backward:.1f}"
        )


if __name__ == "__main__":
    main()
