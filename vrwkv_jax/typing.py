"""Array types that carry shapes, such as ``Float[Array, "B F H W C"]``.

The tests check them with beartype. Where jaxtyping is not installed they are labels without effect, so that the models
import with jax, flax, numpy, einops and safetensors alone.
"""

from jax import Array

try:
    from jaxtyping import Bool, Float, Int, UInt8
except ModuleNotFoundError:

    class _Label:
        def __class_getitem__(cls, item):
            return item[0]

    Bool = Float = Int = UInt8 = _Label  # type: ignore[misc, assignment]

__all__ = ["Array", "Bool", "Float", "Int", "UInt8"]
