"""Loading the model that trains, choosing what of it trains, and adding adapters.

Source: Wu et al. 2024 (NeurIPS), Sec. 3.2: text encoder and ViT frozen, the temporal transformer trained from scratch.
"""

import os
from typing import Any, TypeAlias

import torch
from transformers import AutoModel, AutoProcessor, PreTrainedModel, ProcessorMixin

from videorm_hf.models.sources import hub_arguments, load_config, loading

ModelOrPath: TypeAlias = PreTrainedModel | str | os.PathLike[str]

HEAD = "temporal_head"
_HEAD_FIELDS = (
    *("temporal_head", "temporal_num_layers", "temporal_num_heads", "temporal_intermediate_size", "max_frames"),
    *("temporal_hidden_act",),
)


def load_reward_model(model: ModelOrPath, init_kwargs: dict[str, Any] | None = None) -> PreTrainedModel:
    """Return the model that is to train.

    Args:
        model (`PreTrainedModel` or `str` or `os.PathLike`):
            A reward model with a temporal head, or where `AutoModel.from_pretrained` finds it.
        init_kwargs (`dict[str, Any]`, *optional*):
            Arguments of `from_pretrained`, also fields of the configuration. Where these change the temporal head, it
            is made anew with random weights.

    Returns:
        `PreTrainedModel`: with all of its weights.

    Raises:
        TypeError: If it is no transformers model.
        ValueError: If it has no temporal head, or its folder lacks weights or holds others than the model has.
    """
    if not isinstance(model, str | os.PathLike):
        if not isinstance(model, PreTrainedModel):
            raise TypeError(f"model must be a VideoRMModel or a path to one: got {type(model).__name__}.")
        if init_kwargs:
            raise ValueError("model_init_kwargs must be None when model is loaded already: load it with these.")
        return _checked(model, type(model).__name__)
    init_kwargs = dict(init_kwargs or {})
    with loading(model):
        saved = load_config(model, init_kwargs).to_dict()
    new_head = [name for name in _HEAD_FIELDS if name in init_kwargs and init_kwargs[name] != saved.get(name)]
    loaded, report = AutoModel.from_pretrained(
        model, output_loading_info=True, ignore_mismatched_sizes=bool(new_head), **init_kwargs
    )
    loaded = _checked(loaded, str(model))
    expected = (f"{HEAD}.",) if new_head else ()
    for kind in ("missing_keys", "unexpected_keys"):
        names = sorted(name for name in report[kind] if not name.startswith(expected))
        if names:
            raise ValueError(
                f"{model} is a checkpoint of another architecture than its configuration says: {len(names)} "
                f"{kind.replace('_', ' ')}, such as {names[:3]}."
            )
    if new_head:
        head = type(loaded.get_submodule(HEAD))(loaded.config)
        head.apply(loaded._init_weights)
        loaded.set_submodule(HEAD, head.to(loaded.device))
    return loaded


def _checked(model: PreTrainedModel, name: str) -> PreTrainedModel:
    """Raise for a model that has no temporal head."""
    if HEAD not in dict(model.named_children()):
        raise ValueError(
            f"{name} holds a {model.config.model_type!r} model, which has no temporal head: expected a VIDEORM. Make "
            "one of a CLIP-like checkpoint with `videorm convert SOURCE OUT`."
        )
    return model


def load_processor(
    processor: ProcessorMixin | None, model: ModelOrPath, init_kwargs: dict[str, Any] | None = None
) -> ProcessorMixin:
    """Return the processor that goes with a model.

    Args:
        processor (`ProcessorMixin`, *optional*):
            What was given.
        model (`PreTrainedModel` or `str` or `os.PathLike`):
            The model, or where its folder is.
        init_kwargs (`dict[str, Any]`, *optional*):
            What the model is loaded with: of the same revision, with the same rights.

    Returns:
        `ProcessorMixin`: what was given, else the one in the model's folder.

    Raises:
        ValueError: If there is neither.
    """
    if processor is not None:
        return processor
    source = model.name_or_path if isinstance(model, PreTrainedModel) else model
    if not source:
        raise ValueError(
            "processing_class must be given with a model that was not read from a folder: "
            'AutoProcessor.from_pretrained("path/to/videorm").'
        )
    return AutoProcessor.from_pretrained(source, **hub_arguments(init_kwargs or {}))


def choose_trainable(
    model: PreTrainedModel,
    trainable: str,
    num_blocks: int | None = None,
    train_logit_scale: bool = False,
    peft_config: Any | None = None,
) -> None:
    """Set what trains, and freeze the rest.

    Trained weights are made float32: updates of a learning rate like 1e-5 are lost in half precision. The frozen ones
    keep their type.

    Args:
        model (`PreTrainedModel`):
            Changed in place.
        trainable (`str`):
            `"temporal"`, `"temporal+last_n_blocks"` or `"all"`.
        num_blocks (`int`, *optional*):
            How many of the image tower's last blocks train.
        train_logit_scale (`bool`, defaults to `False`):
            Whether the scale of the loss trains.
        peft_config (`peft.PeftConfig`, *optional*):
            An adapter, such as `LoraConfig`. Unless it names `modules_to_save`, the temporal head trains whole beside
            it.

    Raises:
        ValueError: If the settings do not fit each other or the model.
    """
    if trainable != "temporal" and peft_config is not None:
        raise ValueError(f'peft_config goes with trainable="temporal": got trainable={trainable!r}.')
    if trainable == "all":
        model.requires_grad_(True)
    elif peft_config is not None:
        add_adapter(model, peft_config)
    else:
        model.freeze_for_temporal_training()
    if trainable == "temporal+last_n_blocks":
        _unfreeze_blocks(model, num_blocks or 1)
    scale = dict(model.named_parameters(recurse=False)).get("logit_scale")
    if scale is not None:
        scale.requires_grad_(train_logit_scale)
    elif train_logit_scale:
        raise ValueError(f"train_logit_scale=True needs a model with a logit_scale: {type(model).__name__} has none.")
    _make_float32(model, trainable)


def add_adapter(model: PreTrainedModel, peft_config: Any) -> None:
    """Put a peft adapter into a model, through transformers' own integration.

    Args:
        model (`PreTrainedModel`):
            Changed in place: everything but the adapter and its `modules_to_save` is frozen.
        peft_config (`peft.PeftConfig`):
            The adapter. Its `modules_to_save` become the temporal head where it names none.

    Raises:
        ValueError: If the model was not read from a folder, which a saved adapter must name.
    """
    if not model.name_or_path:
        raise ValueError(
            "peft_config needs a model that was read from a folder or the Hub, for the saved adapter names it: save "
            "the model first, and give the trainer its path."
        )
    if peft_config.modules_to_save is None:
        peft_config.modules_to_save = [HEAD]
    model.add_adapter(peft_config)


def _unfreeze_blocks(model: PreTrainedModel, num_blocks: int) -> None:
    """Make the image tower's last blocks and its closing layer norm trainable."""
    try:
        layers = list(model.get_submodule("vision_model.encoder.layers").children())
    except AttributeError as error:
        raise ValueError(
            f'trainable="temporal+last_n_blocks" needs vision_model.encoder.layers: {type(model).__name__} '
            'has none. Use "temporal", "all" or a peft_config.'
        ) from error
    if num_blocks > len(layers):
        raise ValueError(f"num_trainable_blocks must be at most {len(layers)}, the tower's depth: got {num_blocks}.")
    for module in (*layers[-num_blocks:], model.get_submodule("vision_model.post_layernorm")):
        module.requires_grad_(True)


def _make_float32(model: PreTrainedModel, trainable: str) -> None:
    """Bring trained weights to float32 where the frozen ones may stay in half precision."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if all(parameter.dtype == torch.float32 for parameter in trained):
        return
    if trainable != "temporal":
        raise ValueError(
            f"trainable={trainable!r} needs weights in float32: got {model.dtype}. Load the model with "
            'model_init_kwargs={"dtype": "float32"} and set bf16=True to compute in half precision.'
        )
    for parameter in trained:
        parameter.data = parameter.data.float()
