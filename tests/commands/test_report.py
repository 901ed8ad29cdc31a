"""What ``vrwkv tune`` says in the end."""

from vrwkv_jax.commands.tune import report
from vrwkv_jax.config import TuneConfig
from vrwkv_jax.runs.directory import RunDirectory


def test_a_report_is_printable(tmp_path, capsys):
    directory = tmp_path / "\x1b[2Jrun"
    directory.mkdir()
    (directory / "metrics.json").write_text('{"reconstruction_psnr_db": 1, "autoencoder_psnr_db": 2}')
    (directory / "loss.png").touch()
    report(RunDirectory(directory), TuneConfig(edit_prompts=("\x1b[2J",)))
    assert "\x1b" not in capsys.readouterr().out
