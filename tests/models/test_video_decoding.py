"""Which frames are chosen, that few others are decoded, and what every kind of broken file is called."""

import ctypes
import gc
import io
import os
import pickle
import subprocess
import sys
import threading
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.video_factory import (
    cut,
    numbered_frames,
    read_numbers,
    rotate_mp4,
    write_sound,
    write_video,
    write_video_without_frames,
)
from videorm_hf.models.videorm import video_decoding_videorm
from videorm_hf.models.videorm.video_decoding_videorm import (
    VideoDecodingError,
    read_frames,
    time_indices,
    uniform_indices,
)

SHORT_GROUPS = {"g": "8"}


@given(total=st.integers(1, 5000), num_frames=st.integers(1, 64))
def test_uniform_indices_are_the_middles_of_equal_parts(total: int, num_frames: int) -> None:
    expected = [int((Fraction(2 * i + 1, 2) * total) / num_frames) for i in range(num_frames)]
    assert uniform_indices(total, num_frames).tolist() == expected


@given(
    total=st.integers(2, 300),
    num_frames=st.integers(1, 32),
    fps=st.fractions(min_value=1, max_value=120, max_denominator=1001),
    start=st.integers(0, 10_000),
)
def test_millisecond_rounding_does_not_move_the_choice(total: int, num_frames: int, fps: Fraction, start: int) -> None:
    times = np.array([start + round(1000 * i / fps) for i in range(total)])
    for duration in (0, round(1000 / fps), 40):
        chosen = time_indices(times, np.full(total, duration), num_frames)
        assert chosen.tolist() == uniform_indices(total, num_frames).tolist()


def test_a_variable_frame_rate_is_sampled_by_time() -> None:
    # Nine frames in the first second, one that stays for nine more.
    times = np.array([0, 100, 200, 300, 400, 500, 600, 700, 800, 1000])
    durations = np.array([*np.diff(times), 9000])
    assert time_indices(times, durations, 10).tolist() == [5, 9, 9, 9, 9, 9, 9, 9, 9, 9]


@pytest.mark.parametrize(
    ("suffix", "codec"), [("mp4", "libx264"), ("mkv", "libx264"), ("webm", "libvpx-vp9"), ("webm", "libvpx")]
)
def test_the_claimed_fps_does_not_change_the_frames(tmp_path: Path, suffix: str, codec: str) -> None:
    frames = numbered_frames(16)
    for fps in (7, 10, Fraction(24000, 1001), 30, 60):
        path = tmp_path / f"{float(fps):.3f}.{suffix}"
        write_video(path, frames, fps, codec=codec, options=SHORT_GROUPS)
        for num_frames in (3, 5, 8, 16):
            assert read_numbers(read_frames(path, num_frames).frames) == uniform_indices(16, num_frames).tolist()


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [
        ("mp4", "libx264", "yuv420p"),
        ("mp4", "libsvtav1", "yuv420p"),
        ("mkv", "ffv1", "yuv420p"),
        ("mov", "qtrle", "rgb24"),
        ("avi", "mpeg4", "yuv420p"),
        ("avi", "libx264", "yuv420p"),  # pictures reordered in a container without presentation times
        ("ts", "libx264", "yuv420p"),
        ("mpg", "mpeg2video", "yuv420p"),
        ("h264", "libx264", "yuv420p"),  # no container, no times
        ("gif", "gif", "rgb8"),
        ("apng", "apng", "rgb24"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    path = tmp_path / f"clip.{suffix}"
    write_video(path, numbered_frames(40), 25, codec=codec, pix_fmt=pix_fmt, options=SHORT_GROUPS)
    for num_frames in (3, 8):
        assert read_numbers(read_frames(path, num_frames).frames) == uniform_indices(40, num_frames).tolist()


def test_only_what_is_needed_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    frames = numbered_frames(256)
    write_video(path, np.concatenate([frames] * 4), options=SHORT_GROUPS)
    decoded = read_frames(path, 8)
    assert read_numbers(decoded.frames) == (uniform_indices(1024, 8) % 256).tolist()
    assert decoded.num_decoded <= 8 * 8
    assert decoded.timestamps.tolist() == pytest.approx((uniform_indices(1024, 8) / 30).tolist())


def test_a_variable_frame_rate_file(tmp_path: Path) -> None:
    path = tmp_path / "vfr.mp4"
    times = [0, 1, 2, 3, 4, 5, 6, 7, 20, 40]  # in tenths of a second
    write_video(path, numbered_frames(10), times=times, time_base=Fraction(1, 10), options={"bf": "0"})
    # The last frame is held for the median gap, 0.1 s, so the middles lie at 0.51, 1.54, 2.56 and 3.59 s.
    decoded = read_frames(path, 4)
    assert read_numbers(decoded.frames) == [5, 7, 8, 8]
    assert decoded.timestamps.tolist() == pytest.approx([0.5, 0.7, 2.0, 2.0])


def test_frames_equal_a_full_decode_of_real_clips(real_clips: list[Path]) -> None:
    for path in real_clips:
        decoded = read_frames(path, 8)
        with av.open(str(path)) as container:
            wanted: list[np.ndarray] = []
            total = sum(1 for _ in container.decode(video=0))
            container.seek(0)
            indices = uniform_indices(total, 8).tolist()
            for index, frame in enumerate(container.decode(video=0)):
                if index in indices:
                    wanted.append(frame.to_ndarray(format="rgb24", interpolation="BICUBIC"))
        assert np.abs(decoded.frames.astype(int) - np.stack(wanted)).max() <= 1


def test_every_shared_clip_is_sampled_uniformly(shared_clips: list[Path]) -> None:
    for path in shared_clips[::4]:
        decoded = read_frames(path, 8)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            times = sorted(packet.pts for packet in container.demux(stream) if packet.size)
            expected = np.array(times)[uniform_indices(len(times), 8)] * float(stream.time_base)
        assert decoded.timestamps.tolist() == pytest.approx(expected.tolist())


def test_paths_bytes_and_files_give_the_same_frames(tmp_path: Path) -> None:
    path = tmp_path / "a: colon.mp4"
    write_video(path, numbered_frames(12))
    expected = read_frames(path, 4).frames
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes())):
        assert np.array_equal(read_frames(source, 4).frames, expected)


@pytest.mark.parametrize("suffix", ["mp4", "gif"])
def test_a_clip_of_one_frame_and_one_shorter_than_wanted(tmp_path: Path, suffix: str) -> None:
    codec, pix_fmt = ("gif", "rgb8") if suffix == "gif" else ("libx264", "yuv420p")
    for total in (1, 3):
        path = tmp_path / f"{total}.{suffix}"
        write_video(path, numbered_frames(total), 10, codec=codec, pix_fmt=pix_fmt)
        assert read_numbers(read_frames(path, 8).frames) == uniform_indices(total, 8).tolist()


def _scene(height: int, width: int) -> np.ndarray:
    """Colours that change slowly and differently in every direction, so that turns and wrong matrices show."""
    rows, columns = np.mgrid[0 : 1 : 1j * height, 0 : 1 : 1j * width]
    return (255 * np.stack([rows, columns, (1 - rows) * columns], -1)).astype(np.uint8)


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "height", "width"),
    [
        ("libx264", "yuv420p", 96, 128),
        ("libx264", "yuv444p", 97, 131),
        ("libx264", "yuv420p10le", 96, 130),
        ("libx265", "yuv422p10le", 96, 130),
        ("ffv1", "yuv420p", 97, 131),
        ("ffv1", "bgr0", 97, 131),
        ("mjpeg", "yuvj420p", 97, 131),
    ],
)
def test_pixel_formats_and_odd_sizes(tmp_path: Path, codec: str, pix_fmt: str, height: int, width: int) -> None:
    scene = _scene(height, width)
    write_video(tmp_path / "clip.mkv", scene[None].repeat(3, 0), codec=codec, pix_fmt=pix_fmt, options={"crf": "4"})
    frames = read_frames(tmp_path / "clip.mkv", 2).frames
    assert frames.shape == (2, height, width, 3)
    assert np.abs(frames.astype(int) - scene).mean() < 2.5


def test_grey_video(tmp_path: Path) -> None:
    scene = _scene(97, 131)
    write_video(tmp_path / "grey.mkv", scene[None], codec="ffv1", pix_fmt="gray")
    luma = scene @ np.array([0.299, 0.587, 0.114])
    frame = read_frames(tmp_path / "grey.mkv", 1).frames[0]
    assert np.abs(frame - luma[..., None]).max() <= 2


@pytest.mark.parametrize("color_range", [1, 2])
@pytest.mark.parametrize("colorspace", [1, 5, 9])
def test_the_matrix_and_range_that_the_video_names(tmp_path: Path, colorspace: int, color_range: int) -> None:
    red_weight, blue_weight = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}[colorspace]
    y, u, v = 120, 90, 170
    scale = (255 / 219, 255 / 224, 16) if color_range == 1 else (1, 1, 0)
    luma, blue, red = (y - scale[2]) * scale[0], (u - 128) * scale[1], (v - 128) * scale[1]
    expected_red, expected_blue = luma + 2 * (1 - red_weight) * red, luma + 2 * (1 - blue_weight) * blue
    green = (luma - red_weight * expected_red - blue_weight * expected_blue) / (1 - red_weight - blue_weight)

    planes = np.concatenate([np.full((64, 64), y), np.full((16, 64), u), np.full((16, 64), v)]).astype(np.uint8)
    with av.open(str(tmp_path / "clip.mkv"), "w") as output:
        stream = output.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = colorspace, color_range
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.colorspace, frame.color_range = colorspace, color_range
        output.mux(stream.encode(frame))
        output.mux(stream.encode())
    pixel = read_frames(tmp_path / "clip.mkv", 1).frames[0, 32, 32]
    assert pixel == pytest.approx([expected_red, green, expected_blue], abs=2)


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_rotation_is_applied(tmp_path: Path, rotation: int) -> None:
    scene = _scene(96, 128)
    write_video(tmp_path / "turned.mp4", scene[None].repeat(2, 0), options={"crf": "4"})
    rotate_mp4(tmp_path / "turned.mp4", rotation)
    frame = read_frames(tmp_path / "turned.mp4", 1).frames[0]
    expected = np.rot90(scene, rotation // 90)  # both count counterclockwise
    assert frame.shape == expected.shape
    assert np.abs(frame.astype(int) - expected).mean() < 2.5


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"),
    [("mov", "qtrle", "argb"), ("webm", "libvpx-vp9", "yuva420p"), ("apng", "apng", "rgba")],
)
def test_alpha_is_laid_on_white(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    pixels = np.zeros((2, 64, 64, 4), dtype=np.uint8)
    pixels[..., 0], pixels[:, :32, :, 3], pixels[:, 32:, :32, 3] = 200, 255, 128
    path = tmp_path / f"alpha.{suffix}"
    write_video(path, pixels, 10, codec=codec, pix_fmt=pix_fmt, source_format="rgba")
    frame = read_frames(path, 1).frames[0].astype(int)
    assert frame[16, 32] == pytest.approx([200, 0, 0], abs=4)
    assert frame[48, 16] == pytest.approx([227, 127, 127], abs=4)
    assert frame[48, 48] == pytest.approx([255, 255, 255], abs=1)


def test_a_transparent_gif_is_laid_on_white(tmp_path: Path) -> None:
    image = PIL.Image.new("RGBA", (32, 32), (0, 0, 0, 0))
    image.paste((0, 200, 0, 255), (0, 0, 16, 32))
    image.save(tmp_path / "clear.gif", save_all=True, append_images=[image.rotate(90)], duration=100, disposal=2)
    frame = read_frames(tmp_path / "clear.gif", 2).frames[0]
    assert frame[16, 4].tolist() == [0, 200, 0]
    assert frame[16, 28].tolist() == [255, 255, 255]


def _broken_files(folder: Path) -> dict[str, str]:
    """Write one file of each broken kind; return the reason that each must be given."""
    whole = folder / "whole.mp4"
    write_video(whole, numbered_frames(30))
    write_video(folder / "front.mp4", numbered_frames(30), faststart=True)
    write_video(folder / "whole.mkv", numbered_frames(30))
    write_video(folder / "whole.avi", numbered_frames(30), codec="mpeg4")
    write_video(folder / "whole.gif", numbered_frames(30), 10, codec="gif", pix_fmt="rgb8")
    for source in (whole, folder / "front.mp4", folder / "whole.mkv", folder / "whole.avi", folder / "whole.gif"):
        for share in (0.4, 0.98):
            cut(source, folder / f"cut-{share}-{source.name}", share)
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    (folder / "notes.txt").write_text("These are notes, not a video.\n" * 50)
    (folder / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\nwhole.mp4\n#EXT-X-ENDLIST\n")
    PIL.Image.fromarray(numbered_frames(1)[0]).save(folder / "still.png")
    write_sound(folder / "sound.wav")
    write_video_without_frames(folder / "none.mp4")
    write_video_without_frames(folder / "none.mkv")
    write_video_without_frames(folder / "none.avi")
    (folder / "folder.mp4").mkdir()
    reasons = {path.name: "truncated" for path in folder.glob("cut-*")}
    return reasons | {
        "absent.mp4": "missing",
        "whole.mp4/inside.mp4": "missing",
        "folder.mp4": "unreadable",
        "empty.mp4": "empty",
        "noise.mp4": "not_a_video",
        "notes.txt": "not_a_video",
        "list.m3u8": "not_a_video",
        "still.png": "not_a_video",
        "sound.wav": "no_video_stream",
        "none.mp4": "no_frames",
        "none.mkv": "no_frames",
        "none.avi": "no_frames",
    }


def test_every_broken_file_has_a_reason(tmp_path: Path) -> None:
    found = {}
    reasons = _broken_files(tmp_path)
    for name in reasons:
        with pytest.raises(VideoDecodingError) as caught:
            read_frames(tmp_path / name, 8)
        found[name] = caught.value.reason
    assert found == reasons


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a thing of POSIX")
@pytest.mark.parametrize(
    "playlist", ["#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.ts\n", "ffconcat version 1.0\nfile secret.ts\n"]
)
def test_what_a_playlist_names_is_not_opened(tmp_path: Path, playlist: str) -> None:
    (tmp_path / "clip.mp4").write_text(playlist)
    (tmp_path / "clip.m3u8").write_text(playlist)
    secret = tmp_path / "secret.ts"
    os.mkfifo(secret)
    is_done, was_opened = threading.Event(), threading.Event()

    def watch() -> None:
        while not is_done.wait(0.001):
            try:  # succeeds while somebody reads
                os.close(os.open(secret, os.O_WRONLY | os.O_NONBLOCK))
                was_opened.set()
            except OSError:
                pass

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for name in ("clip.mp4", "clip.m3u8"):
            with pytest.raises(VideoDecodingError, match="not a video FFmpeg can open") as caught:
                read_frames(tmp_path / name, 8)
            assert caught.value.reason == "not_a_video"
    finally:
        is_done.set()
        watcher.join()
    assert not was_opened.is_set()


def test_bytes_can_be_empty_or_cut_short(tmp_path: Path) -> None:
    write_video(tmp_path / "clip.mp4", numbered_frames(30), faststart=True)
    content = (tmp_path / "clip.mp4").read_bytes()
    for source, reason in ((b"", "empty"), (content[:-500], "truncated"), (b"noise" * 100, "not_a_video")):
        with pytest.raises(VideoDecodingError) as caught:
            read_frames(source, 8)
        assert caught.value.reason == reason


def test_damage_inside_a_needed_frame_is_an_error_not_a_score(tmp_path: Path) -> None:
    path = tmp_path / "clip.mov"
    write_video(path, _scene(96, 128)[None].repeat(10, 0), codec="png", pix_fmt="rgb24")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle - 3000 : middle + 3000] = bytes(6000)
    path.write_bytes(content)
    with pytest.raises(VideoDecodingError) as caught:
        read_frames(path, 10)
    assert caught.value.reason in ("decode_error", "truncated")


def test_without_pyav_only_reading_is_an_error() -> None:
    code = (
        "import sys; sys.modules['av'] = None\n"
        "from videorm_hf.models.videorm.video_decoding_videorm import read_frames\n"
        "try: read_frames('clip.mp4', 2)\n"
        "except ImportError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install av" in done.stdout


def test_a_container_cover_picture_is_not_a_video(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        sound, cover = output.add_stream("aac", rate=8000), output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic.value
        audio = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        audio.sample_rate = 8000
        output.mux(cover.encode(av.VideoFrame.from_ndarray(numbered_frames(1)[0], format="rgb24")))
        output.mux(cover.encode())
        output.mux(sound.encode(audio))
        output.mux(sound.encode())
    with pytest.raises(VideoDecodingError) as caught:
        read_frames(path, 8)
    assert caught.value.reason == "no_video_stream"


def test_bytes_after_the_last_mp4_box_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, numbered_frames(16))
    path.write_bytes(path.read_bytes() + b"\0" * 37 + b"appended by a camera")
    assert read_numbers(read_frames(path, 8).frames) == uniform_indices(16, 8).tolist()


class HeapFacts(ctypes.Structure):
    """`struct mallinfo2` of glibc."""

    _fields_ = [(f"field_{number}", ctypes.c_size_t) for number in range(10)]


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="needs glibc 2.33, which counts its heap")
@pytest.mark.parametrize("num_frames", [1, 8])
def test_nothing_is_kept_of_a_video_that_was_read(tmp_path: Path, num_frames: int) -> None:
    path = tmp_path / "clip.mp4"
    write_video(path, numbered_frames(16), options=SHORT_GROUPS)
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = HeapFacts
    sizes = []
    for _ in range(3):  # the first round pays for what is made once
        for _ in range(100):
            read_frames(path, num_frames)
        gc.collect()
        sizes.append(mallinfo().field_7)  # bytes in use
    assert sizes[2] - sizes[1] < 100 * 100  # bytes a video


def test_num_frames_must_be_positive() -> None:
    with pytest.raises(ValueError, match="num_frames must be at least 1, got 0"):
        read_frames("clip.mp4", 0)


def test_the_error_keeps_its_reason_across_processes() -> None:
    error = pickle.loads(pickle.dumps(VideoDecodingError("empty", "no data")))
    assert (error.reason, str(error)) == ("empty", "no data")


def test_a_picture_too_large_to_read_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "a.mp4", numbered_frames(3))
    read_frames(tmp_path / "a.mp4", 2)
    monkeypatch.setattr(video_decoding_videorm, "MAX_PIXELS", 63 * 48)
    with pytest.raises(VideoDecodingError, match="too large to read") as raised:
        read_frames(tmp_path / "a.mp4", 2)
    assert raised.value.reason == "decode_error"
