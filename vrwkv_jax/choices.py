"""What ``auto`` stands for in a configuration, on the device that is there."""

from pallas_kernels.bi_wkv.api import implementation_for
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.errors import UserError


def bi_wkv_name(config: TuneConfig) -> str:
    """The implementation of Bi-WKV that will run, such as "scan".

    Raises:
        UserError: ``config`` names one that can't run here.
    """
    try:
        return implementation_for(config.bi_wkv)
    except ValueError as error:
        raise UserError(f"--bi-wkv {config.bi_wkv}: {error}; --bi-wkv auto takes what this device can run") from error
