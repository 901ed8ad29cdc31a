"""What a checkpoint's ``unet/config.json`` says, as far as the SD 1.x and 2.x families say it."""

from dataclasses import dataclass
from typing import Literal

DownBlockType = Literal["CrossAttnDownBlock2D", "DownBlock2D"]
UpBlockType = Literal["CrossAttnUpBlock2D", "UpBlock2D"]


@dataclass(frozen=True)
class UNetConfig:
    """Fields, names and defaults of diffusers' ``UNet2DConditionModel``; one-valued fields are checked, not used.

    Distilled models lack parts: BK-SDM and what follows it have one layer per block, down to three resolutions, and no
    ``mid_block_type``. Latent consistency models have a ``time_cond_proj_dim``, the width in which they are told the
    guidance scale.
    """

    in_channels: int = 4
    out_channels: int = 4
    flip_sin_to_cos: bool = True
    freq_shift: int = 0
    down_block_types: tuple[DownBlockType, ...] = (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D")
    up_block_types: tuple[UpBlockType, ...] = ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3)
    block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280)
    layers_per_block: int = 2
    norm_num_groups: int = 32
    norm_eps: float = 1e-5
    cross_attention_dim: int = 1280
    transformer_layers_per_block: int = 1
    attention_head_dim: int | tuple[int, ...] = 8
    use_linear_projection: bool = False
    mid_block_type: Literal["UNetMidBlock2DCrossAttn"] | None = "UNetMidBlock2DCrossAttn"
    time_cond_proj_dim: int | None = None

    mid_block_scale_factor: Literal[1] = 1
    downsample_padding: Literal[1] = 1
    act_fn: Literal["silu"] = "silu"
    center_input_sample: Literal[False] = False
    only_cross_attention: Literal[False] = False
    dual_cross_attention: Literal[False] = False
    class_embed_type: None = None
    num_class_embeds: None = None
    addition_embed_type: None = None
    encoder_hid_dim: None = None
    time_embedding_type: Literal["positional"] = "positional"
    resnet_time_scale_shift: Literal["default"] = "default"
    conv_in_kernel: Literal[3] = 3
    conv_out_kernel: Literal[3] = 3

    @property
    def num_heads(self) -> tuple[int, ...]:
        """Attention heads per level. The config's ``attention_head_dim`` means just that, whatever its name says."""
        heads = self.attention_head_dim
        return heads if isinstance(heads, tuple) else (heads,) * len(self.block_out_channels)

    @property
    def time_channels(self) -> int:
        """Width of the time embedding."""
        return 4 * self.block_out_channels[0]
