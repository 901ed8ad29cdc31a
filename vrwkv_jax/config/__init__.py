"""The typed configuration of the two commands: a YAML file nested by section, overridden by flat flags."""

from vrwkv_jax.config.command_line import command_line, edit_command_line
from vrwkv_jax.config.editing import EditConfig
from vrwkv_jax.config.flags import messages_name_flags, parse_edit_command, parse_flags, parse_tune_config
from vrwkv_jax.config.schema import ClipConfig, EditCommand, TuneConfig, TuningConfig
from vrwkv_jax.config.yaml_file import load_yaml, save_yaml
from vrwkv_jax.editing.controls.config import ControlConfig
from vrwkv_jax.editing.long.config import LongConfig
from vrwkv_jax.editing.settings import Sampling
from vrwkv_jax.models.video_config import VideoConfig

__all__ = [
    "ClipConfig",
    "ControlConfig",
    "EditCommand",
    "EditConfig",
    "LongConfig",
    "Sampling",
    "TuneConfig",
    "TuningConfig",
    "VideoConfig",
    "command_line",
    "edit_command_line",
    "load_yaml",
    "messages_name_flags",
    "parse_edit_command",
    "parse_flags",
    "parse_tune_config",
    "save_yaml",
]
