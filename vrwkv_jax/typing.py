"""Array types that carry shapes, such as ``Float[Array, "B F H W C"]``: those of the kernels."""

from pallas_kernels.typing import Array, Bool, Float, Int, UInt8

__all__ = ["Array", "Bool", "Float", "Int", "UInt8"]
