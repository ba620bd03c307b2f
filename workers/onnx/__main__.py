"""`python -m workers.onnx --fd N`: serve one classifier over the inherited socket N."""

from __future__ import annotations

from workers.onnx.loader import load
from workers.port.child import run_child


def main() -> int:
    """Parse the command line and serve until the peer is done."""
    return run_child("workers.onnx", load)


if __name__ == "__main__":
    raise SystemExit(main())
