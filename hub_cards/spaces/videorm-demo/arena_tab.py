"""The tab in which people vote on pairs of videos without knowing which model made which."""

import base64
import hashlib
import logging
import math
import secrets
import shutil
import tempfile
import textwrap
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import av
import gradio as gr
from options import Options
from templates import fill, problem

from videorm_hf.annotation.agreement import Estimate
from videorm_hf.arena.duels import Duel, read_duels
from videorm_hf.arena.export import export_votes
from videorm_hf.arena.results import ModelComparison, compare_models, measure_raters
from videorm_hf.arena.votes import MAX_NAME, Choice, VoteStore, clean_name
from videorm_hf.evaluation.results import Interval
from videorm_hf.models.videorm.video_decoding_videorm import VIDEO_FORMATS, read_frames
from videorm_hf.reporting.plots import bar_chart
from videorm_hf.videoprefer.video_io import cut_clip

logger = logging.getLogger(__name__)
# What browsers play; other files are written anew as H.264 in MP4.
_PLAYABLE_ENDINGS = (".mp4", ".webm")
_PLAYABLE_CODECS = ("h264", "vp8", "vp9", "av1")
_PLAYABLE_PIXELS = "yuv420p"
_BUTTONS: tuple[tuple[Choice, str], ...] = (
    ("left", "← Left"),
    ("tie", "↓ Tie"),
    ("right", "Right →"),
)
_MESSAGES = {
    "counted": "Your vote is counted.",
    "already": "Your vote on that pair was counted before, and stays.",
    "too_soon": "That was quicker than anybody can look: it was not counted. Please vote again.",
}
_FEW_PROMPTS = 20
# Told apart by the colour-blind too (ColorBrewer's Dark2).
_COLORS = {"win": "#1b9e77", "tie": "#999999", "lose": "#d95f02"}
Shown = tuple[Any, ...]


def build_arena_tab(tab: gr.Tab, rater: gr.BrowserState, options: Options) -> None:
    """Add the components of the tab.

    Args:
        tab (`gradio.Tab`): The tab; opening it shows the pair that the rater has before them.
        rater (`gradio.BrowserState`): Remembers who votes.
        options ([`Options`]): The pairs, and where votes are kept.
    """
    arena = Arena(options)
    duel_id = gr.Textbox(visible="hidden")
    clips = gr.HTML(elem_id="duel")
    with gr.Row(elem_id="vote-buttons"):
        buttons = [gr.Button(label, elem_id=f"vote-{choice}", min_width=90) for choice, label in _BUTTONS]
    status = gr.HTML(elem_id="vote-status")
    with gr.Accordion("Who votes", open=False):
        with gr.Row():
            name = gr.Textbox(label="Your name", max_length=MAX_NAME, min_width=200, elem_id="rater-name")
            rename = gr.Button("Vote under this name", min_width=160, elem_id="rater-button")
    shown = [rater, name, duel_id, clips, status, *buttons]
    # Past the queue, which scoring may fill: voting takes no model and never waits for one.
    tab.select(arena.enter, [rater], shown, queue=False, show_progress="hidden", api_name="enter")
    gr.on([rename.click, name.submit], arena.enter, [name], shown, queue=False, api_name="rename")
    for (choice, _), button in zip(_BUTTONS, buttons, strict=True):
        button.click(
            partial(arena.vote, choice),
            [rater, duel_id],
            shown,
            queue=False,
            show_progress="hidden",
            api_name=f"vote_{choice}",
        )
    with gr.Accordion("Results and export (look only after voting)", open=False):
        with gr.Row():
            refresh = gr.Button("Show results", elem_id="results-button")
            export = gr.Button("Export votes", elem_id="export-button")
        exported = gr.HTML(elem_id="exported")
        archive = gr.File(label="Votes as preference data", visible=False, elem_id="archive")
        results = gr.HTML(elem_id="results")
    refresh.click(arena.results, None, results, api_name="results")
    export.click(arena.export, None, [archive, exported], api_name="export")


class Arena:
    """What the tab does, apart from its components.

    Every video is put where it is served before anybody votes: one that cannot be shown would hold up raters for good.

    Args:
        options ([`Options`]): The pairs, and where votes are kept.

    Raises:
        ValueError: If there is no pair both of whose videos can be shown.
    """

    def __init__(self, options: Options) -> None:
        self.served = options.data / "served" / "arena"
        self.exports = options.data / "served" / "exports"
        self.addresses: dict[Path, str] = {}
        read = read_duels(options.pairs)
        logger.info("Preparing the videos of %d pairs.", len(read))
        duels = [duel for duel in read if self._can_show(duel)]
        if not duels:
            raise ValueError(f"{options.pairs} holds no pair both of whose videos can be shown.")
        self.store = VoteStore(options.data / "votes" / "votes.sqlite", duels)

    def enter(self, name: str) -> Shown:
        """Show a rater the pair before them.

        Args:
            name (`str`): As typed or as the browser remembers it; a name is made up for who has none.

        Returns:
            `tuple`: the rater's name twice, the id of the pair, its HTML, the status, and the buttons.
        """
        try:
            rater = clean_name(name or f"anon-{secrets.token_hex(3)}")
        except ValueError as error:
            return (gr.skip(), gr.skip(), gr.skip(), gr.skip(), problem(str(error)), *[gr.skip()] * len(_BUTTONS))
        return self._show(rater, "")

    def vote(self, choice: Choice, rater: str, duel_id: str) -> Shown:
        """Count a vote and show the next pair.

        Args:
            choice (`"left"`, `"tie"` or `"right"`): Which is better.
            rater (`str`): Who votes.
            duel_id (`str`): On which pair.

        Returns:
            `tuple`: as [`Arena.enter`].
        """
        try:
            rater = clean_name(rater or "")
        except ValueError:
            return self.enter("")  # the page has not told yet who votes
        try:
            message = _MESSAGES[self.store.vote(rater, duel_id, choice)]
        except ValueError as error:
            message = str(error)
        return self._show(rater, message)

    def _show(self, rater: str, message: str) -> Shown:
        showing = self.store.show(rater)
        status = fill(
            "vote_status", rater=rater, message=message, done=self.store.num_voted(rater), total=len(self.store.duels)
        )
        buttons = [gr.Button(interactive=showing is not None) for _ in _BUTTONS]
        if showing is None:
            return rater, rater, "", fill("all_voted"), status, *buttons
        sides = [("Left", self.addresses[showing.left.video]), ("Right", self.addresses[showing.right.video])]
        clips = fill("duel", prompt=showing.duel.prompt, sides=sides)
        return rater, rater, showing.duel.duel_id, clips, status, *buttons

    def _can_show(self, duel: Duel) -> bool:
        """Serve the videos of a duel; say why where one cannot be."""
        try:
            for video in (duel.a.video, duel.b.video):
                if video not in self.addresses:
                    self.addresses[video] = self.serve(video)
        except (OSError, ValueError) as error:
            logger.warning("A pair of %r is left out: %s.", duel.prompt, error)
            return False
        return True

    def serve(self, video: Path) -> str:
        """Put a video where it is served, under a name that tells nothing of where it comes from.

        Args:
            video (`Path`): The file.

        Returns:
            `str`: its address, relative to the page. A video that cannot be decoded is a `ValueError`.
        """
        facts = video.stat()
        key = f"{video} {facts.st_size} {facts.st_mtime_ns}"  # a file that was replaced is another one
        name = hashlib.sha256(key.encode("utf-8")).hexdigest()[:24]
        playable = is_playable(video)
        target = self.served / f"{name}{video.suffix.lower() if playable else '.mp4'}"
        if not target.is_file():
            self.served.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.served) as unfinished:
                made = Path(unfinished, target.name)
                shutil.copyfile(video, made) if playable else cut_clip(video, made, 0.0, float("inf"))
                made.replace(target)
        return f"gradio_api/file={quote(str(target))}"

    def results(self) -> str:
        """Return the results as HTML: who wins, with intervals, and how far raters agree."""
        votes = self.store.votes()
        if not votes:
            return problem("There is not one vote yet.")
        comparisons = compare_models(votes, self.store.duels)
        return fill(
            "results",
            comparisons=comparisons,
            chart=_chart(comparisons) if comparisons else None,
            raters=measure_raters(votes, self.store.duels),
            few_prompts=_FEW_PROMPTS,
        )

    def export(self) -> tuple[Any, str]:
        """Write the votes as preference data.

        Returns:
            `tuple`: a ZIP file to download, and what it holds in words.
        """
        votes = self.store.votes()
        self.exports.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.exports) as unfinished:
            try:
                rows = export_votes(votes, self.store.duels, Path(unfinished, "votes"))
            except ValueError as error:
                return gr.File(visible=False), problem(str(error))
            made = shutil.make_archive(str(Path(unfinished, "arena-votes")), "zip", Path(unfinished, "votes"))
            target = Path(made).replace(self.exports / "arena-votes.zip")
        return gr.File(str(target), visible=True), fill("exported", rows=rows, num_votes=len(votes))


def is_playable(video: Path) -> bool:
    """Tell whether browsers play a file as it is.

    Args:
        video (`Path`): The file.

    Returns:
        `bool`: `False` for a video that must be written anew. One that cannot be decoded is a `ValueError`.
    """
    read_frames(video, 1)  # says in words what is wrong with a file that is no video or cut short
    with av.open(f"file:{video}", container_options={"format_whitelist": VIDEO_FORMATS}) as container:
        stream = container.streams.video[0].codec_context
        is_known = stream.codec.canonical_name in _PLAYABLE_CODECS and stream.pix_fmt == _PLAYABLE_PIXELS
    return is_known and video.suffix.lower() in _PLAYABLE_ENDINGS


def _chart(comparisons: list[ModelComparison]) -> str:
    """Draw win, tie and lose with intervals; return an address that a page can hold."""
    bars = {name: [_bar(each.shares[name]) for each in comparisons] for name in _COLORS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "chart.png")
        bar_chart(
            path,
            [
                textwrap.fill(f"{each.model_b} against {each.model_a}", 14, break_long_words=False)
                for each in comparisons
            ],
            {name: [height for height, _ in of_name] for name, of_name in bars.items()},
            intervals={name: [interval for _, interval in of_name] for name, of_name in bars.items()},
            ylabel="% of votes",
            title="Win, tie, lose",
            colors=_COLORS,
            narrow=True,
        )
        return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"


def _bar(share: Estimate) -> tuple[float, Interval]:
    """Return a bar's height in percent and the ends of its whiskers; an undefined share is not drawn."""
    value = math.nan if share.value is None else share.value
    low, high = share.interval or (value, value)
    return 100 * value, (100 * low, 100 * high)
