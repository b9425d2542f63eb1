"""The table of config fields: every option of a run.

Read it to learn what a config can say. Each field has one row, its only home: the name,
the type, the default, the comment, and whether a resumed run may change it. A name with
a dot is a key of a field: `model.widths` is a keyword of the network.

A spec is a `name` with its keyword arguments. The name is that of a public function of
the module that the comment gives, or an external one, `package.module:function`. The
rows list the keys that `configs/base.py` sets. The function may have more, and another
function has others: its signature lists them, with their types. Ordered things are
tuples of specs.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from ml_collections import ConfigDict

from unet_jax.specs import BelowOne, Count, Domain, NonNegative, Positive, Spec, Whole

Keyword = Any  # the signature of the function that the spec names has the type
UNSET = object()  # configs/base.py does not set this key


class Field(NamedTuple):
    """One field of a config.

    Attributes:
      name: as it is written after `config.`.
      type: of the value, as `specs.check_type` reads it.
      default: the value in `configs/base.py`.
      comment: the meaning, with units and choices.
      may_change: True if a run that is resumed may have another value; then so may
        every key of the field.
    """

    name: str
    type: Any
    default: Any
    comment: str
    may_change: bool = False


def _is_folder_name(text: str) -> bool:
    return Path(text).name == text not in ("", ".", "..")


_FolderName = Annotated[str, Domain("that can name a folder", _is_folder_name)]
_Seed = Annotated[int, Domain("from 0 to 2^31 - 1", lambda n: 0 <= n < 2**31)]
_Precision = Literal["float32", "bfloat16"]
_Views = Literal["none", "flips", "rot4", "d4", "paper"]

# A row of two lines is easier to read than a line for each column.
# fmt: off
FIELDS = (
    # The run
    Field("name", _FolderName, "base",
          "the run folder is runs/<name> if there is no --workdir", may_change=True),
    Field("seed", _Seed, 0,
          "of everything random: initial weights, order of the images, crops, "
          "augmentation, dropout"),
    Field("steps", Count, 1000,
          "updates of the parameters", may_change=True),
    Field("batch_size", Count, 8,
          "examples per step, over all devices"),
    Field("crop", tuple[Count, ...], (128, 128),
          "pixels per axis that the network sees in training"),
    Field("log_every", Count, 20,
          "steps between two lines of training scalars", may_change=True),
    Field("eval_every", Count, 200,
          "steps between two evaluations on the validation split", may_change=True),
    Field("checkpoint_every", Count, 200,
          "steps between two checkpoints", may_change=True),
    Field("init_from", str, "",
          "a run folder or a .safetensors file whose variables training begins with; "
          "'': random weights"),
    Field("freeze", tuple[str, ...], (),
          "patterns of the names of parameters that training leaves as they are: "
          "\"--config.freeze=('down*',)\". Running statistics of batch norm still "
          "follow the data"),

    # The data
    Field("data", Spec, {"name": "cells"},
          "unet_jax/data: images and labels. cells (synthetic) | folder (your own) | "
          "tfds | isbi2012 | dic_hela | phc_u373 | dsb2018"),
    Field("data.root", Keyword, UNSET,
          "folder: the folder that holds images/ and masks/", may_change=True),
    Field("data.records", Keyword, UNSET,
          "folder: where the records of a large folder are kept, for fast reading",
          may_change=True),
    Field("data.survey", Keyword, UNSET,
          "folder: the survey.json of another run; files that it knows are not read "
          "again", may_change=True),
    Field("data.manual_dir", Keyword, UNSET,
          "public data sets: where their archives are; '': they are downloaded",
          may_change=True),
    Field("data.data_dir", Keyword, UNSET,
          "public data sets: where their prepared records are; '': the TFDS default",
          may_change=True),
    Field("spacing", tuple[Positive, ...], (),
          "size of a pixel, per axis and in the units of the files, that images are "
          "resampled to; scores are those of the original pixels. (): no resampling"),
    Field("normalize", Spec, {"name": "standard"},
          "unet_jax/data/normalize.py: standard | unit | percentile"),
    Field("weight_map", Spec, {"name": "uniform"},
          "unet_jax/data/weights.py: the weight of each pixel in the loss. uniform | "
          "border (equation 2 of the paper) | frequency (rare classes weigh more)"),
    Field("sampling", Spec, {"name": "uniform"},
          "unet_jax/data/sampling.py: where crops are cut. uniform | foreground (a "
          "share of them around a pixel of the foreground) | balanced (around a pixel "
          "of a class, all classes equally often)"),
    Field("cache", NonNegative, 4.0,
          "GiB of prepared examples that a process keeps in memory", may_change=True),
    Field("threads", Count, 2,
          "threads that cut crops while a step runs", may_change=True),

    # The network
    Field("model", Spec, {"name": "UNet"},
          "unet_jax/models"),
    Field("model.widths", Keyword, (64, 128, 256, 512, 1024),
          "channels of each level, the finest first"),
    Field("model.padding", Keyword, "SAME",
          "SAME | VALID (as in the paper; the output is smaller than the input)"),
    Field("model.norm", Keyword, "batch",
          "none | batch | group | instance"),
    Field("model.conv_bias", Keyword, False,
          "gives convolutions before a norm a bias, too"),
    Field("model.activation", Keyword, "relu",
          "an activation of jax.nn"),
    Field("model.negative_slope", Keyword, 0.01,
          "of leaky_relu"),
    Field("model.encoder", Keyword, "plain",
          "plain | residual (a stem, and blocks with shortcuts)"),
    Field("model.encoder_depths", Keyword, (2,),
          "convolutions, or residual blocks, of each level, the finest first; here and "
          "in the next three one entry serves all levels, and one number all axes"),
    Field("model.decoder_depths", Keyword, (2,),
          "convolutions of each level of the expanding path"),
    Field("model.strides", Keyword, ((2,),),
          "from each level to the next, per axis: ((1,2,2),(2,2,2))"),
    Field("model.kernels", Keyword, ((3,),),
          "sizes of the convolutions of each level, per axis"),
    Field("model.downsample", Keyword, "pool",
          "pool | conv (the stride of a level's first convolution)"),
    Field("model.upsample", Keyword, "transpose",
          "transpose | nearest | linear"),
    Field("model.dropout", Keyword, 0.0,
          "rate at the end of the contracting path; 0: no dropout"),
    Field("model.residual", Keyword, False,
          "adds a shortcut to every plain block"),
    Field("model.attention", Keyword, False,
          "adds a gate to every skip connection"),
    Field("model.deep_supervision", Keyword, False,
          "adds a loss at every level of the expanding path"),
    Field("model.time_features", Keyword, 0,
          "size of the embedding of a diffusion's time; 0: no time"),
    Field("model.remat", Keyword, False,
          "computes the blocks again in the backward pass, to save memory"),
    Field("task", Spec, {"name": "semantic"},
          "unet_jax/tasks: what the output means. semantic (exclusive classes: "
          "softmax) | multilabel (classes may overlap: sigmoid) | flow (touching "
          "instances) | regression (image to image)"),
    Field("task.steps", Keyword, UNSET,
          "flow: steps for which pixels follow the vectors", may_change=True),
    Field("task.probability", Keyword, UNSET,
          "flow: a pixel with a higher probability is in an object", may_change=True),
    Field("task.pixels", Keyword, UNSET,
          "flow: in the smallest object", may_change=True),
    Field("task.flow_threshold", Keyword, UNSET,
          "flow: the largest difference between the vectors of an object and those of "
          "its shape; 0 keeps all objects", may_change=True),
    Field("precision", _Precision, "float32",
          "float32 | bfloat16, of the computation; parameters and logits are float32. "
          "In float32, too, TPUs and NVIDIA GPUs since Ampere multiply in fewer bits, "
          "unless the environment sets JAX_DEFAULT_MATMUL_PRECISION=highest"),

    # Training
    Field("method", Spec, {"name": "supervised"},
          "unet_jax/methods: how parameters are learnt. supervised | mean_teacher "
          "(labelled and unlabelled images) | diffusion (generates images)"),
    Field("method.sampling_steps", Keyword, UNSET,
          "diffusion: steps in which an image is drawn; fewer are faster",
          may_change=True),
    Field("method.eta", Keyword, UNSET,
          "diffusion: the share of fresh noise in each of these steps",
          may_change=True),
    Field("method.clip", Keyword, UNSET,
          "diffusion: bound on the pixels in each of these steps; 0: no bound",
          may_change=True),
    Field("loss", tuple[Spec, ...],
          ({"name": "cross_entropy", "scale": 1.0},
           {"name": "dice", "scale": 1.0, "smooth": 1.0}),
          "unet_jax/losses.py: the sum of these, each times its scale (1 by default); "
          "scale 0 turns one off"),
    Field("augment", tuple[Spec, ...],
          ({"name": "flip"},
           {"name": "rotation", "degrees": 180.0, "probability": 0.5},
           {"name": "scale", "low": 0.8, "high": 1.25, "probability": 0.5},
           {"name": "brightness", "sigma": 0.1},
           {"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5}),
          "unet_jax/augment: in this order, each with its probability (1 by default)"),
    Field("optimizer", Spec, {"name": "adam"},
          "unet_jax/optimizers.py: sgd | adam | adamw | lamb"),
    Field("optimizer.learning_rate", Keyword, 1e-3,
          "the peak of the schedule"),
    Field("optimizer.weight_decay", Keyword, 0.0,
          "of all parameters but biases and norms"),
    Field("optimizer.clip", Keyword, 1.0,
          "bound on the norm of the gradient; 0: no bound"),
    Field("schedule", Spec, {"name": "cosine"},
          "unet_jax/schedules.py: constant | cosine | polynomial | exponential"),
    Field("schedule.warmup", Keyword, 50,
          "steps to the peak, at most half of the run"),
    Field("ema", BelowOne, 0.0,
          "decay of an average of the parameters, with which images are evaluated and "
          "predicted; 0: no average"),
    Field("parallel", Spec, {"name": "pmap"},
          "unet_jax/parallel.py: pmap | mesh (`space` devices share an image)",
          may_change=True),

    # Evaluation and prediction
    Field("metrics", tuple[Spec, ...],
          ({"name": "dice"},
           {"name": "iou"},
           {"name": "precision"},
           {"name": "recall"},
           {"name": "accuracy"},
           {"name": "pixel_error"},
           {"name": "surface_dice", "tolerance": 1.0},
           {"name": "hausdorff95"},
           {"name": "calibration_error"},
           {"name": "brier"}),
          "unet_jax/metrics: the highest value of the first one chooses the best "
          "checkpoint. Distances, such as a tolerance, are in pixels, or in the units "
          "of the spacing where the data set has one", may_change=True),
    Field("predict", Mapping, {},
          "how images are segmented by --mode=predict, and for the scores of the test "
          "split", may_change=True),
    Field("predict.tta", _Views, "none",
          "test-time augmentation: the views to average over. none | flips | rot4 | d4 "
          "| paper", may_change=True),
    Field("predict.tile", tuple[Count, ...], (),
          "pixels per axis of the largest tile, or one number for all axes; (): what "
          "fits in memory", may_change=True),
    Field("predict.batch", Whole, 0,
          "tiles that are computed at once; 0: what fits in memory",
          may_change=True),
    Field("predict.channels", Literal["exact", "convert"], "exact",
          "exact (as in training) | convert (grey to RGB, or RGB to grey)",
          may_change=True),
    Field("predict.save_probabilities", bool, False,
          "writes the probabilities of the classes, as a float32 TIFF",
          may_change=True),
    Field("predict.save_uncertainty", bool, False,
          "writes the uncertainty of every pixel, as a float32 TIFF", may_change=True),
    Field("predict.postprocess", tuple[Spec, ...], (),
          "unet_jax/postprocess.py: in this order", may_change=True),
    Field("predict.seed", _Seed, 0,
          "of the images that --mode=sample draws", may_change=True),
)
# fmt: on

# Fields of earlier versions, and what to do instead.
REPLACED = {
    "head": "use config.task: {'name': 'semantic'} for softmax, {'name': 'multilabel'} "
    "for sigmoid"
}


def make_default_config() -> ConfigDict:
    """Returns a config with every field at its default."""
    config = ConfigDict()
    for field in FIELDS:
        outer, _, key = field.name.rpartition(".")
        if field.default is not UNSET:
            (config[outer] if outer else config)[key] = from_plain(field.default)
    return config


def from_plain(value: Any) -> Any:
    """Returns plain data as a value of a config.

    Args:
      value: plain data, from JSON for example.

    Returns:
      The same with tuples for lists and ConfigDicts for dicts.
    """
    if isinstance(value, list | tuple):
        return tuple(map(from_plain, value))
    if isinstance(value, dict):
        return ConfigDict({key: from_plain(inner) for key, inner in value.items()})
    return value


def may_change(name: str) -> bool:
    """Returns True if a resumed run may have another value of a field or key.

    Args:
      name: of the field or, with dots, of a key in it: `predict.tta`.
    """
    free = [field.name for field in FIELDS if field.may_change]
    return any(name == field or name.startswith(f"{field}.") for field in free)


def list_keys(name: str) -> dict[str, Field]:
    """Returns the rows of the keys of a field, such as those of `predict`."""
    outer = f"{name}."
    return {
        field.name.removeprefix(outer): field
        for field in FIELDS
        if field.name.startswith(outer)
    }
