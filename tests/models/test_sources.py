"""Where a model is read from, told before any network is asked."""

import pytest

from videorm_hf.miniature.shipped import T2V_MINI, VIDEORM_MINI
from videorm_hf.models.sources import PIPELINE_FILES, VIDEORM_FILES, find_source


def test_the_shipped_models_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_source("videorm-mini", "A VIDEORM") == str(VIDEORM_MINI)
    assert find_source("t2v-mini", "A pipeline") == str(T2V_MINI)
    (tmp_path / "videorm-mini").mkdir()
    assert find_source("videorm-mini", "A VIDEORM") == "videorm-mini"  # one's own folder of that name comes first


def test_a_folder_and_a_hub_id_are_taken_as_they_are(tmp_path):
    assert find_source(tmp_path, "A VIDEORM") == str(tmp_path)
    assert find_source("owner/name", "A VIDEORM") == "owner/name"


def test_a_folder_of_another_kind_is_named_with_what_it_lacks():
    assert find_source("t2v-mini", "A pipeline", PIPELINE_FILES) == str(T2V_MINI)
    for word in ("t2v-mini", T2V_MINI):
        with pytest.raises(FileNotFoundError, match="a folder with config.json or .* got '.*t2v-mini', without"):
            find_source(word, "A VIDEORM", VIDEORM_FILES)


@pytest.mark.parametrize("word", ["no-such-folder", "./no/folder", ""])
def test_what_is_neither_is_said_at_once(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="A VIDEORM must be a folder, or a Hub id such as owner/name: got"):
        find_source(word, "A VIDEORM")


def test_a_checkpoint_file_is_to_be_converted(tmp_path):
    (tmp_path / "HPS_v2.pt").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match="got the file .*HPS_v2.pt.*videorm convert"):
        find_source(tmp_path / "HPS_v2.pt", "A VIDEORM")
