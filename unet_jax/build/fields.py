"""The table of config fields: every option of a run.

Each field has one row with its name, type, default and description, and whether a
resumed run may change it. A name with a dot is a key of a field: `model.widths` is a
keyword of the network.

The value of many fields is a spec: a `name` with keyword arguments. The name is that of
a public function of the module that the description gives, or an external name,
`package.module:function`. The table lists the keywords that `configs/base.py` sets and
those that may change. The signature of the function lists all of its keywords, with
their types. Some fields are tuples of specs.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from ml_collections import ConfigDict

from unet_jax.errors import find_nearest
from unet_jax.specs import (
    BelowOne,
    Count,
    Domain,
    NonNegative,
    Positive,
    Proportion,
    Spec,
    Whole,
)

Keyword = Any  # the type is in the signature of the function that the spec names
UNSET = object()  # the default of a key that configs/base.py does not set


class Field(NamedTuple):
    """A field of a config.

    Attributes:
      name: the text after `config.`.
      type: of the value, for `specs.check_type`.
      default: the value in `configs/base.py`.
      comment: the description, with units, choices and special values.
      may_change: True if the value may change when a run is resumed. It then holds for
        all keys of the field.
    """

    name: str
    type: Any
    default: Any
    comment: str
    may_change: bool = False


def _is_folder_name(text: str) -> bool:
    return Path(text).name == text not in ("", ".", "..")


_FolderName = Annotated[str, Domain("that can name a folder", _is_folder_name)]


def _is_span(steps: tuple[int, ...]) -> bool:
    return len(steps) in (0, 2) and steps == tuple(sorted(steps))


_Span = Annotated[
    tuple[Count, ...],
    Domain("in ascending order, two or none: 10,15 or ()", _is_span),
]
_Seed = Annotated[int, Domain("from 0 to 2^31 - 1", lambda n: 0 <= n < 2**31)]
_Precision = Literal["float32", "bfloat16"]
_Views = Literal["none", "flips", "rot4", "d4", "paper"]

# A row of a few lines is easier to read than a line for each argument.
# fmt: off
FIELDS = (
    # The run
    Field("name", _FolderName, "base",
          "Name of the run. The run folder is runs/<name>, unless --workdir gives "
          "another.", may_change=True),
    Field("seed", _Seed, 0,
          "Seed of all random numbers of training: initial parameters, order of the "
          "images, crops, augmentation and dropout."),
    Field("steps", Count, 1000,
          "Number of training steps. Each step updates the parameters once.",
          may_change=True),
    Field("batch_size", Count, 8,
          "Number of examples in a step, over all devices. It must be a multiple of "
          "the number of devices, or of groups of devices that share an image."),
    Field("crop", tuple[Count, ...], (128, 128),
          "Size of a training crop, the input of the network, in pixels along each "
          "axis: height and width, or depth, height and width. Networks with VALID "
          "padding take only some sizes, such as 572; the error about another size "
          "lists the nearest ones."),
    Field("log_every", Count, 20,
          "Number of steps between two lines of training scalars in metrics.jsonl.",
          may_change=True),
    Field("logs", tuple[Literal["tensorboard", "wandb"], ...], ("tensorboard",),
          "Programs that get the numbers and pictures of a run, besides metrics.jsonl. "
          "tensorboard; wandb: Weights & Biases, which needs the package wandb. (): "
          "none.", may_change=True),
    Field("eval_every", Count, 200,
          "Number of steps between two evaluations on the validation split. Each "
          "evaluation also saves a checkpoint.", may_change=True),
    Field("checkpoint_every", Count, 200,
          "Number of steps between two checkpoints.", may_change=True),
    Field("max_bad_steps", Count, 10,
          "Number of steps in a row whose numbers are not finite, after which a run "
          "stops. Such a step changes nothing and is counted. They are counted when "
          "the log is written and when a checkpoint is saved.", may_change=True),
    Field("profile", _Span, (),
          "First and last step of a profile, which --config.profile=10,15 writes to "
          "profile/ in the run folder for ui.perfetto.dev. (): none.", may_change=True),
    Field("init_from", str, "",
          "Weights to start from: a run folder, a .safetensors file, a checkpoint of a "
          "PyTorch program, the folder of a fold of nnU-Net v2, or hub:OWNER/NAME. "
          "Arrays of the same name and shape are used; the others are initialised at "
          "random. '': all are initialised at random."),
    Field("freeze", tuple[str, ...], (),
          "Patterns for the names of parameters that training does not change: "
          "`--config.freeze=\"('down*',)\"`, where `*` matches any text. Running "
          "statistics of batch norm are still updated. (): all parameters are "
          "trained."),

    # The data
    Field("data", Spec, {"name": "cells"},
          "Data set, a function of unet_jax/data. cells: synthetic; "
          "folder: your own images; tfds: a data set of TensorFlow Datasets; isbi2012, "
          "dic_hela, phc_u373, dsb2018: public data sets."),
    Field("data.root", Keyword, UNSET,
          "folder: path of the folder that holds images/ and masks/.",
          may_change=True),
    Field("data.background", Keyword, UNSET,
          "True: class 0 is the background, and the score of a data set is the mean "
          "over the other classes. False: no class is, as in street scenes, and all "
          "classes count. folder and tfds: True by default; isbi2012: False; the other "
          "data sets have a background. Losses do not use it: dice and tversky have a "
          "keyword of the same name."),
    Field("data.group", Keyword, UNSET,
          "folder: regular expression for the names of files. Files in which it finds "
          "the same text, such as the number of a patient, are in one split."),
    Field("data.series", Keyword, UNSET,
          "folder: together: consecutive images that look alike (slices, frames) are "
          "in one split, or the splits are blocks of them; apart: all images are "
          "independent."),
    Field("data.tiff_axes", Keyword, UNSET,
          "folder, and --mode=predict: order of the axes of TIFF files with as many "
          "axes, for files that do not state it. CYX: channels first; YXC: channels "
          "last; ZYX: pages or slices. '': what the files state.", may_change=True),
    Field("data.records", Keyword, UNSET,
          "folder: path of a folder for a copy of the data that is fast to read, for "
          "large data sets. '': the image files are read.", may_change=True),
    Field("data.survey", Keyword, UNSET,
          "folder: path of the survey.json of another run, the results of its check of "
          "the files. Files that have not changed since then are not read again before "
          "training. '': all files are read.", may_change=True),
    Field("data.manual_dir", Keyword, UNSET,
          "Public data sets: path of the folder with their archives. '': the archives "
          "are downloaded.", may_change=True),
    Field("data.data_dir", Keyword, UNSET,
          "Public data sets, tfds: path of the folder for prepared data. '': the "
          "default folder of TensorFlow Datasets.", may_change=True),
    Field("spacing", tuple[Positive, ...], (),
          "Size of a pixel along each axis to which images are resampled, in the units "
          "of the image files, such as mm. Scores are computed at the original size. "
          "(): images are not resampled."),
    Field("normalize", Spec, {"name": "standard"},
          "Normalisation of each image, a function of unet_jax/data/normalize.py. "
          "standard: zero mean and unit variance in each channel; unit: integers are "
          "divided by the largest value of their type, and floats are unchanged; "
          "percentile: the 1st and the 99th percentile of each channel become 0 and 1, "
          "and values outside are clipped; fixed: the same mean and std for all "
          "images, as for networks that were trained on ImageNet; nnunet: the schemes "
          "of an nnU-Net, one for each channel."),
    Field("weight_map", Spec, {"name": "uniform"},
          "Weight of each pixel in the loss, a function of unet_jax/data/weights.py. "
          "uniform: all are equal; border: the background between two objects has a "
          "higher weight (equation 2 of the U-Net paper); frequency: rare classes have "
          "a higher weight."),
    Field("sampling", Spec, {"name": "uniform"},
          "Position of training crops, a function of unet_jax/data/sampling.py. "
          "uniform: anywhere in the image; foreground: a share of the crops contains a "
          "random pixel of the foreground; balanced: each crop contains a random pixel "
          "of a class, and all classes are equally likely."),
    Field("sampling_share", Proportion, 1.0,
          "Share of the rows of each batch, the last ones, whose crops `sampling` "
          "places; the other crops are anywhere. 0.33 and sampling.probability=1: the "
          "oversampling of nnU-Net, with at least one free crop."),
    Field("cache", NonNegative, 4.0,
          "Memory of each process for prepared images, in GiB. Images that do not fit "
          "are read again for each crop.", may_change=True),
    Field("threads", Count, 2,
          "Number of threads of each process that prepare batches during training.",
          may_change=True),

    # The network
    Field("model", Spec, {"name": "UNet"},
          "Network, a class of unet_jax/models."),
    Field("model.widths", Keyword, (64, 128, 256, 512, 1024),
          "Number of channels at each level, the finest level first. There are as many "
          "levels as entries, two or more. A ResNet as the encoder has its own."),
    Field("model.padding", Keyword, "SAME",
          "Padding of convolutions. SAME: the output has the size of the input; VALID: "
          "the output is smaller, as in the paper."),
    Field("model.norm", Keyword, "batch",
          "Normalisation after each convolution: none, batch, group or instance."),
    Field("model.conv_bias", Keyword, False,
          "True: convolutions before a norm have a bias, too."),
    Field("model.activation", Keyword, "relu",
          "Activation after each convolution, a function of jax.nn: relu, leaky_relu, "
          "elu, gelu, silu, ..."),
    Field("model.negative_slope", Keyword, 0.01,
          "Slope of leaky_relu for negative values, 0 or more. Other activations do "
          "not use it."),
    Field("model.encoder", Keyword, "plain",
          "Blocks of the contracting path. plain: convolutions; residual: one first "
          "convolution, then residual blocks of two convolutions; resnet18, resnet34, "
          "resnet50, resnet101: those of a ResNet, for which init_from takes "
          "pretrained weights. A ResNet has six levels and uses no model.widths, "
          "model.encoder_depths, model.strides and model.downsample."),
    Field("model.encoder_depths", Keyword, (2,),
          "Number of convolutions (of residual blocks if the encoder is residual) at "
          "each level of the contracting path, the finest level first. A single entry "
          "is for all levels."),
    Field("model.decoder_depths", Keyword, (2,),
          "Number of convolutions at each level of the expanding path, the finest "
          "level first. A single entry is for all levels."),
    Field("model.decoder_widths", Keyword, (),
          "Number of channels at each level of the expanding path, the finest level "
          "first. (): those of model.widths, or 16,32,64,128,256 for a ResNet."),
    Field("model.decoder_hidden", Keyword, (),
          "Number of channels of all convolutions but the last one, at each level of "
          "the expanding path. (): those of model.decoder_widths."),
    Field("model.up_widths", Keyword, (),
          "Number of channels after the upsampling to each level, the finest level "
          "first. (): those of model.widths, or of model.decoder_widths for a ResNet."),
    Field("model.strides", Keyword, ((2,),),
          "Factors of downsampling from each level to the next, along each axis: "
          "`((1,2,2),(2,2,2))`. A single entry is for all levels, and a single number "
          "is for all axes."),
    Field("model.kernels", Keyword, ((3,),),
          "Kernel sizes of the convolutions in pixels, at each level and along each "
          "axis; odd numbers. A single entry is for all levels, and a single number is "
          "for all axes."),
    Field("model.downsample", Keyword, "pool",
          "Downsampling. pool: max pooling; conv: the first convolution of a level has "
          "a stride, which needs SAME padding."),
    Field("model.upsample", Keyword, "transpose",
          "Upsampling. transpose: a transposed convolution; nearest, linear, aligned: "
          "interpolation, then a convolution. aligned: linear, with the corner pixels "
          "in place, so that the result depends on the size of the image or tile."),
    Field("model.upsample_conv", Keyword, True,
          "False: no convolution follows an interpolation."),
    Field("model.head_kernel", Keyword, 1,
          "Kernel size of the last layer in pixels, along every axis; an odd number. "
          "Above 1 it needs SAME padding."),
    Field("model.dropout", Keyword, 0.0,
          "Dropout rate after the two coarsest levels of the contracting path, from 0 "
          "to below 1; 0: no dropout."),
    Field("model.residual", Keyword, False,
          "True: each plain block has a shortcut."),
    Field("model.attention", Keyword, False,
          "True: each skip connection has an attention gate."),
    Field("model.deep_supervision", Keyword, False,
          "True: the loss is computed at each level of the expanding path, not at the "
          "finest one alone."),
    Field("model.time_features", Keyword, 0,
          "Size of the embedding of the time, an even number. Only the method "
          "diffusion needs it. 0: no embedding."),
    Field("model.remat", Keyword, False,
          "True: blocks are computed again in the backward pass, which saves memory "
          "and takes longer."),
    Field("task", Spec, {"name": "semantic"},
          "Meaning of the output, a function of unet_jax/tasks. semantic: one class "
          "for each pixel; multilabel: any number of classes for each pixel; flow: "
          "objects that may touch; regression: an image."),
    Field("task.average", Keyword, UNSET,
          "semantic: what is averaged over tiles, views and runs. probabilities; "
          "logits: the output before the softmax, as nnU-Net does.", may_change=True),
    Field("task.steps", Keyword, UNSET,
          "flow: number of steps, of about one pixel each, in which pixels move along "
          "the predicted vectors to the centre of their object.", may_change=True),
    Field("task.probability", Keyword, UNSET,
          "flow: probability above which a pixel is part of an object, from 0 to 1.",
          may_change=True),
    Field("task.pixels", Keyword, UNSET,
          "flow: size of the smallest object in pixels. Smaller objects become "
          "background.", may_change=True),
    Field("task.flow_threshold", Keyword, UNSET,
          "flow: largest mean squared difference between the predicted vectors of an "
          "object and the vectors of its shape. Objects above it become background; "
          "0: all objects are kept.", may_change=True),
    Field("precision", _Precision, "float32",
          "Number type of the computation in the network: float32 or bfloat16. "
          "Parameters and the output are float32. bfloat16 is slower on a CPU: "
          "training is refused, and prediction uses float32. TPUs, and NVIDIA GPUs "
          "since Ampere, multiply float32 numbers with fewer bits, unless the "
          "environment sets JAX_DEFAULT_MATMUL_PRECISION=highest."),

    # Training
    Field("method", Spec, {"name": "supervised"},
          "Method of training, a function of unet_jax/methods. supervised: from "
          "labelled images; mean_teacher: from labelled and unlabelled images; "
          "diffusion: from images alone, to generate images."),
    Field("method.sampling_steps", Keyword, UNSET,
          "diffusion: number of steps in which an image is generated, at most "
          "method.steps. Fewer steps take less time.", may_change=True),
    Field("method.eta", Keyword, UNSET,
          "diffusion: share of new noise in each of these steps, from 0 to 1; 0: the "
          "noise at the start determines the image.", may_change=True),
    Field("method.clip", Keyword, UNSET,
          "diffusion: limit of the absolute pixel values of the predicted image in "
          "each of these steps, in units of the normalised image; 0: no limit.",
          may_change=True),
    Field("loss", tuple[Spec, ...],
          ({"name": "cross_entropy", "scale": 1.0},
           {"name": "dice", "scale": 1.0, "smooth": 1.0}),
          "Terms of the loss, functions of unet_jax/losses/. The loss is their sum, "
          "each multiplied by its scale, which is 1 by default. A scale of 0 turns a "
          "term off."),
    Field("supervise_coarsest", bool, True,
          "With model.deep_supervision: False leaves the coarsest output out of the "
          "loss, as nnU-Net does. The weights of the outputs are 1, 1/2, 1/4 and so "
          "on, from the finest, divided by their sum."),
    Field("augment", tuple[Spec, ...],
          ({"name": "flip"},
           {"name": "rotation", "degrees": 180.0, "probability": 0.5},
           {"name": "scale", "low": 0.8, "high": 1.25, "probability": 0.5},
           {"name": "brightness", "sigma": 0.1},
           {"name": "gamma", "low": 0.7, "high": 1.5, "probability": 0.5}),
          "Augmentation of training crops, functions of unet_jax/augment. They are "
          "applied in this order, each with its probability, which is 1 by default."),
    Field("optimizer", Spec, {"name": "adam"},
          "Optimizer, a function of unet_jax/optimizers.py: sgd, adam, adamw or lamb."),
    Field("optimizer.learning_rate", Keyword, 1e-3,
          "Highest learning rate of the schedule, 0 or more."),
    Field("optimizer.weight_decay", Keyword, 0.0,
          "Factor of weight decay, 0 or more, for all parameters except biases and "
          "those of norms; 0: no weight decay."),
    Field("optimizer.clip", Keyword, 1.0,
          "Largest norm of the gradient of all parameters; larger gradients are scaled "
          "down to it. 0: no limit."),
    Field("optimizer.multipliers", Keyword, UNSET,
          "Factors on the learning rate of parameters, by patterns for their names: "
          "`--config.optimizer.multipliers=\"(('down*',0.1),('stem*',0))\"`. The first "
          "pattern that matches counts. A factor of 0 freezes the parameters, and the "
          "running statistics of batch norm too. (): all have the same rate."),
    Field("schedule", Spec, {"name": "cosine"},
          "Learning rate over the steps, a function of unet_jax/schedules.py: "
          "constant, cosine, polynomial or exponential."),
    Field("schedule.warmup", Keyword, 50,
          "Number of first steps in which the learning rate rises from 0, at most half "
          "of all steps; 0: no warm-up."),
    Field("ema", BelowOne, 0.0,
          "Decay of an exponential moving average of the parameters, which replaces "
          "them in evaluation and prediction; 0: no average."),
    Field("parallel", Spec, {"name": "pmap"},
          "Use of several devices, a function of unet_jax/parallel.py. pmap: each "
          "device has a share of the batch; mesh: groups of `space` devices share each "
          "image.", may_change=True),

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
          "Metrics, functions of unet_jax/metrics. The best checkpoint is the one with "
          "the highest value, on the validation split, of the first metric that the "
          "run started with. A score is the mean over the classes without the "
          "background (see data.background). Distances, such as a tolerance, are in "
          "pixels, or in the units of the spacing if the data set has one. (): no "
          "metrics, only for the method diffusion; the best checkpoint is the one with "
          "the lowest loss.",
          may_change=True),
    Field("predict", Mapping, {},
          "Options of prediction, for --mode=predict and for the scores of the test "
          "split.", may_change=True),
    Field("predict.tta", _Views, "none",
          "Test-time augmentation: the prediction is the mean over these views of the "
          "image. none: the image alone; flips: each combination of mirrored axes (4 "
          "views, or 8 of a volume); rot4: the 4 quarter turns; d4: the 4 quarter "
          "turns, each with and without a mirrored axis; paper: 7 of the views of d4.",
          may_change=True),
    Field("predict.tile", tuple[Count, ...], (),
          "Largest size of a tile in pixels along each axis; a single number is for "
          "all axes. (): about four million pixels, or more for a deep network; fewer "
          "if the memory is short.", may_change=True),
    Field("predict.tiling", Literal["auto", "nnunet"], "auto",
          "Place of the tiles. auto: as few as possible, with the result of the whole "
          "image; nnunet: exactly of the size predict.tile, at equal steps of at most "
          "half a tile, blended with a Gaussian. Small images are surrounded by zeros.",
          may_change=True),
    Field("predict.batch", Whole, 0,
          "Number of tiles that are predicted at once, over all devices of a process; "
          "0: as many as the free memory allows.", may_change=True),
    Field("predict.runtime", Literal["xla", "onnxruntime"], "xla",
          "Program that computes the network. xla: JAX, on any device; onnxruntime: "
          "faster on a CPU, only for the network UNet; needs the packages of "
          "unet_jax[cpu]. Training, with its scores, always uses xla.",
          may_change=True),
    Field("predict.channels", Literal["exact", "convert"], "exact",
          "Channels of images. exact: they must have as many as the training images; "
          "convert: grey images become RGB, or RGB images grey, if necessary.",
          may_change=True),
    Field("predict.save_probabilities", bool, False,
          "True: the probability of each class is written to "
          "<stem>_probabilities.tif, as float32.", may_change=True),
    Field("predict.save_uncertainty", bool, False,
          "True: the uncertainty of each pixel (entropy and mutual information, in "
          "nats) is written to <stem>_uncertainty.tif, as float32.", may_change=True),
    Field("predict.postprocess", tuple[Spec, ...], (),
          "Post-processing, functions of unet_jax/postprocess.py, which are applied in "
          "this order. (): none.", may_change=True),
    Field("predict.seed", _Seed, 0,
          "Seed of the images that --mode=sample generates.", may_change=True),

    # Export
    Field("export", Mapping, {},
          "Options of the files that --mode=export writes.", may_change=True),
    Field("export.formats",
          tuple[
              Literal["onnx", "stablehlo", "safetensors", "bioimageio", "web"], ...
          ],
          ("onnx", "stablehlo", "safetensors", "bioimageio"),
          "Formats. onnx: model.onnx, for onnxruntime and others; stablehlo: "
          "model.stablehlo, for JAX alone; safetensors: the weights of each run; "
          "bioimageio: a folder for the BioImage Model Zoo; web: a folder for the page "
          "in web/.", may_change=True),
    Field("export.dtype", Literal["float32", "uint8", "uint16", "int16"], "float32",
          "Type of the pixels that model.onnx and model.stablehlo take. float32 holds "
          "the numbers of the others, too, except that normalize='unit' must know the "
          "type of the files.", may_change=True),
    Field("export.channels", Whole, 0,
          "Number of channels of the images that they take: 1 or 3 to convert grey "
          "images to RGB, or RGB images to grey; 0: that of the network.",
          may_change=True),
    Field("export.precision", Literal["float32", "float16"], "float32",
          "Number type of the network in model.onnx and web/model.onnx. float16 halves "
          "the file; the export reports how much the prediction changes. That of "
          "bioimageio is float32.", may_change=True),
    Field("export.authors", tuple[str, ...], (),
          "Names of the authors, for bioimageio.", may_change=True),
    Field("export.license", str, "",
          "Licence of the weights, for bioimageio: an SPDX identifier such as "
          "'CC-BY-4.0'. '': not stated.", may_change=True),

    # Planning
    Field("plan", Mapping, {},
          "Limits of the plan that --mode=inspect makes.", may_change=True),
    Field("plan.seconds", NonNegative, 60.0,
          "Time of the measurements in seconds; the first one ends in any case. 0: no "
          "plan.", may_change=True),
    Field("plan.hours", Positive, 8.0,
          "Longest time in hours that training with the plan may take on this machine.",
          may_change=True),
)
# fmt: on

# Fields of earlier versions, and their replacements.
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
    """Converts plain data, such as JSON, to the value of a config field.

    Lists become tuples, and dicts become ConfigDicts.
    """
    if isinstance(value, list | tuple):
        return tuple(map(from_plain, value))
    if isinstance(value, dict):
        return ConfigDict({key: from_plain(inner) for key, inner in value.items()})
    return value


def may_change(name: str) -> bool:
    """Returns True if the value of a field may change when a run is resumed.

    The name can be that of a key in the field: `predict.tta`.
    """
    changeable = [field.name for field in FIELDS if field.may_change]
    return any(contains(field, name) for field in changeable)


def contains(field: str, other: str) -> bool:
    """Returns True if another field is the field itself, or a part of it.

    The parts of `loss` are `loss[0]` and `loss[0].scale`.
    """
    return other == field or other.startswith((f"{field}.", f"{field}["))


def find_overlap(field: str, others: Iterable[str]) -> str | None:
    """Returns the first of other fields that is the field, a part of it or its whole.

    None if there is none.
    """
    either = (f for f in others if contains(f, field) or contains(field, f))
    return next(either, None)


def find_flag(wrong: str, config: ConfigDict | None = None) -> str:
    """Returns the flag that is nearest to the name of a field that does not exist.

    `find_flag('step')` is '--config.steps', and `find_flag('optimiser.name')` is
    '--config.optimizer.name'. It is '' if no name is similar.

    Args:
      wrong: the name, without `config.`.
      config: a config, whose specs may have keys that are not in the table.
    """
    names = [field.name for field in FIELDS]
    outer = [name for name in names if "." not in name]
    for name in outer:
        names += _list_paths(config.get(name), name) if config else ()
    head, dot, rest = wrong.partition(".")
    if dot:
        near = find_nearest(head, outer)
        return f"--config.{near}.{rest}" if near else ""
    paths: dict[str, str] = {}  # by the last part; a field comes before a key
    for name in (*outer, *names):
        paths.setdefault(name.rpartition(".")[2], name)
    near = find_nearest(wrong, paths)
    return f"--config.{paths[near]}" if near else ""


def _list_paths(value: Any, name: str) -> Iterator[str]:
    """Yields the names of all keys in a field: 'optimizer.clip', 'loss[0].scale'."""
    if isinstance(value, ConfigDict):
        for key, inner in value.items():
            yield f"{name}.{key}"
            yield from _list_paths(inner, f"{name}.{key}")
    elif isinstance(value, tuple):
        for i, inner in enumerate(value):
            yield from _list_paths(inner, f"{name}[{i}]")


def list_keys(name: str) -> dict[str, Field]:
    """Returns the rows for the keys of a field, by key."""
    outer = f"{name}."
    return {
        field.name.removeprefix(outer): field
        for field in FIELDS
        if field.name.startswith(outer)
    }
