"""Array types that carry shapes, such as ``Float[Array, "B T C"]``.

The tests check them with beartype. Where jaxtyping is not installed they are labels without effect, so that the kernels
import with jax and numpy alone.
"""

from jax import Array

try:
    from jaxtyping import Bool, Float, Int, UInt8
except ModuleNotFoundError:

    class _Label:
        def __class_getitem__(cls, item: tuple[type, str]) -> type:
            return item[0]

    Bool = Float = Int = UInt8 = _Label  # type: ignore[assignment]

__all__ = ["Array", "Bool", "Float", "Int", "UInt8"]
