"""`import videorm_hf` stays light: a reward must load where no diffusion library is installed."""

import subprocess
import sys

import pytest

HEAVY = ("diffusers", "peft", "open_clip", "datasets")


def modules_after(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint('\\n'.join(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    return set(result.stdout.split())


def test_import_is_light() -> None:
    modules = modules_after("import videorm_hf; videorm_hf.VideoRMModel, videorm_hf.VideoRMProcessor")
    assert "videorm_hf.models.videorm.modeling_videorm" in modules
    assert modules.isdisjoint(HEAVY)


@pytest.mark.parametrize("name", ["VideoRMConfig", "VideoRMModel", "VideoRMVideoProcessor", "VideoRMProcessor"])
def test_public_names_are_exported(name: str) -> None:
    import videorm_hf

    assert name in videorm_hf.__all__
    assert getattr(videorm_hf, name).__name__ == name


def test_the_command_line_says_what_it_can_without_heavy_imports() -> None:
    modules = modules_after("import draftv_trainer.cli.draftv")
    assert modules.isdisjoint({"torch", "transformers", *HEAVY})


def test_every_public_name_of_draftv_trainer_is_there() -> None:
    import draftv_trainer

    assert set(draftv_trainer.__all__) == set(draftv_trainer._MODULES) <= set(dir(draftv_trainer))
    for name in draftv_trainer.__all__:
        assert getattr(draftv_trainer, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'DRaFTTrainer'"):
        draftv_trainer.DRaFTTrainer  # noqa: B018
