"""The data set of a folder of the user's own images."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from unet_jax.arrays import IGNORE
from unet_jax.data.dataset_report import DatasetReport, Issue, summarize_notes
from unet_jax.data.files import check_order
from unet_jax.data.folders import checks, diagnosis
from unet_jax.data.folders.cache import SURVEY_FILE, FolderSurvey, survey_folder
from unet_jax.data.folders.masks import ClassOptions, LabelMap, find_label_map
from unet_jax.data.folders.pair import UNLABELLED
from unet_jax.data.folders.pairing import FoundPairs, find_pairs
from unet_jax.data.folders.pairing_issues import describe_ignored
from unet_jax.data.folders.patterns import Patterns
from unet_jax.data.folders.reading import ReadOptions
from unet_jax.data.folders.sources import make_sources
from unet_jax.data.folders.splits import (
    SPLIT_FILE,
    AssignedPages,
    assign_splits,
    split_to_json,
)
from unet_jax.data.folders.survey import Page
from unet_jax.data.label_map import (
    class_names,
    list_label_map_classes,
    parse_label_map,
)
from unet_jax.data.source import Splits
from unet_jax.data.splitting import Share, SplitOptions
from unet_jax.errors import UserError
from unet_jax.specs import Positive, Whole

DATA_FILE = "data.json"  # of a run folder


def folder(
    *,
    root: str = "",
    images: str = "images",
    masks: str = "masks",
    instances: str = "instances",
    targets: str = "targets",
    unlabelled: str = "unlabelled",
    axes: Literal[2, 3] = 2,
    tiff_axes: str = "",
    channels: Whole = 0,
    classes: tuple[str, ...] = (),
    background: bool = True,
    colours: tuple = (),
    label_map: tuple = (),
    ignore_label: int = IGNORE,
    multilabel: bool = False,
    spacing: tuple[Positive, ...] = (),
    val: Share = 0.15,
    test: Share = 0.15,
    folds: Whole = 0,
    fold: Whole = 0,
    group: str = "",
    series: Literal["together", "apart"] = "together",
    seed: Whole = 0,
    split: str = "",
    leaks: Literal["refuse", "allow"] = "refuse",
    links: bool = False,
    records: str = "",
    survey: str = "",
) -> Splits:
    """Makes a data set of the user's own images, with masks, object ids or targets.

    All files are read once before training, so that all problems are reported together.
    Problems are collected in `Splits.report`; `build` raises them.

    Args:
      root: the folder. It holds `images/` and at least one of `masks/`, `instances/`
        and `targets/`; or `train/`, `val/` and `test/` with these. Files with the
        same stem belong together.
      images: another folder in it, or a glob. Files for which the wildcards match the
        same text belong together: 'raw/*_img.tif' and 'drawn/*_mask.png'.
      masks: the same for masks. '' if there are none; without instances and targets,
        the records are then images alone.
      instances: the same for object ids: whole numbers, 0 = background. Without masks,
        all objects have class 1.
      targets: the same for images to restore or to predict. They have the size of their
        image, and any number of channels and any type. With targets, masks and
        instances are optional; without these, there are no labels and no classes.
      unlabelled: the same for images without labels, for semi-supervised training;
        beside `images/`, in `root` and in `train/`.
      axes: 2 for images and stacks of images; 3 for volumes.
      tiff_axes: the order of the axes of TIFF files with as many axes, for files that
        do not state it: 'CYX' for channels first, 'YXC' for channels last, 'ZYX' for
        pages or slices. '': what the files state.
      channels: 1 or 3 converts all images to grey or RGB; 0 takes what most files need.
      classes: names by id, the background first; () takes the classes of the masks.
      background: False if class 0 is a class like the others, as in street scenes. All
        classes then count in the mean of a score. Classes that overlap always all
        count.
      colours: red, green and blue of each class, for pictures and for coloured masks.
      label_map: pairs of a mask value or colour and a class id or name; -1 ignores.
      ignore_label: the mask value of pixels that are not annotated; -1 ignores only
        negative values.
      multilabel: True if classes may overlap: each channel of a mask, or each folder in
        `masks/`, is a class. It needs config.task.name=multilabel.
      spacing: the size of a pixel along each axis, for files that do not state theirs.
      val: the share of the records to validate with, unless their folder is given.
      test: the share of the records to test on, unless their folder is given.
      folds: the number of folds for cross-validation; 0 uses the shares.
      fold: the fold to test on; the next one validates.
      group: a regular expression for the names of files. Files in which it finds the
        same text stay in one split. '': pages of a file and duplicates stay together.
      series: 'together' keeps consecutive numbered images together if they look alike:
        whole series, or blocks of them. 'apart' takes all files for independent.
      seed: another seed gives another split.
      split: the split.json of an earlier run, to use the same split.
      leaks: 'allow' continues if the same image is in two given splits, or unlabelled
        and in val or test.
      links: True allows links that leave the root.
      records: a folder to store the records of a large data set in. They are then
        loaded from there until a file changes; '' stores none.
      survey: the survey.json of a run folder. Files that have not changed since then
        are not read again. A missing or damaged file is ignored. With the `split` of
        the run, a warning names the files whose content has changed.

    Raises:
      UserError: there is no such folder, no image in it, or an argument is wrong.
    """
    if not root and not Path(images).expanduser().is_absolute():
        raise UserError("root: name the folder of your images, --config.data.root=PATH")
    home = Path(root).expanduser()
    class_options = ClassOptions(
        classes=classes
        or list_label_map_classes(label_map, background=background or multilabel),
        colours=colours,
        label_map=label_map,
        ignore_value="" if ignore_label == IGNORE else str(ignore_label),
    )
    check_order(tiff_axes)
    patterns = Patterns(images, masks, instances, targets, unlabelled)
    found = find_pairs(home, patterns, classes=classes, links=links)
    options = ReadOptions(axes, spacing=spacing, tiff_axes=tiff_axes)
    options = _add_mask_options(options, found, class_options, multilabel=multilabel)
    surveyed = survey_folder(
        (*found.pairs, *found.unlabelled),
        home,
        options,
        saved=survey,
        records=records,
        others=(class_options, channels),
    )
    extra = [page for page in surveyed.pages if page.pair.split == UNLABELLED]
    pages = [page for page in surveyed.pages if page.pair.split != UNLABELLED]
    split_options = SplitOptions(val, test, folds, fold, seed)
    assigned = assign_splits(
        pages, split_options, group=group, series=series, file=split, leaks=leaks
    )
    mapping = _find_classes(
        assigned.pages, found, class_options, options, background=background
    )
    pages = [_count_classes(page, mapping) for page in assigned.pages]
    count, of_target, channel_issues = checks.choose_channels(pages, extra, channels)
    set_issues = checks.check_set(
        pages,
        extra,
        mapping,
        leaks=leaks,
        named_classes=len(classes),
        background=background,
        given=bool(split),
    )
    report = _make_report(
        found,
        surveyed,
        mapping,
        options,
        pages=(*pages, *extra),
        assigned=assigned,
        issues=(
            *channel_issues,
            *assigned.issues,
            *set_issues,
            *(surveyed.changed if split else ()),  # without a split, no run began
        ),
    )
    options = options._replace(
        channels=count, target_channels=of_target, ids=mapping.ids
    )
    sources = make_sources(
        home.resolve().name,
        (*pages, *extra),
        options,
        mapping.classes,
        colours=colours,
        background=background,
        prefix=None if report.errors else surveyed.prefix,
        survey=surveyed.data,
    )
    notes = {
        SPLIT_FILE: split_to_json({page.stats.id: page.stats.split for page in pages}),
        DATA_FILE: _report_to_json(report),
        SURVEY_FILE: surveyed.data,
    }
    return Splits(**sources, report=report, notes=notes)


def _add_mask_options(
    options: ReadOptions,
    found: FoundPairs,
    class_options: ClassOptions,
    *,
    multilabel: bool,
) -> ReadOptions:
    """Returns the options with those for reading masks."""
    axes, spacing = options.axes, options.spacing
    has_masks = any(pair.masks for pair in found.pairs)
    if multilabel and found.pairs and not has_masks:
        raise UserError("multilabel=True needs masks, not instances or targets alone")
    if len(spacing) not in (0, axes):
        raise UserError(f"spacing={spacing} must have {axes} sizes, one for each axis")
    classes, _, label_map, ignore_value = class_options
    values = parse_label_map(label_map, classes, ignore_value)
    return options._replace(
        multilabel=has_masks and (multilabel or bool(found.classes)),
        coloured=any("," in value for value in values),
        ignore_value=ignore_value,
    )


def _find_classes(
    pages: Sequence[Page],
    found: FoundPairs,
    class_options: ClassOptions,
    options: ReadOptions,
    *,
    background: bool,
) -> LabelMap:
    """Returns the classes of mask values; or of mask channels, which need no map."""
    classes = class_options.classes
    if found.pairs and not any(pair.labelled for pair in found.pairs):
        if classes:
            raise UserError(
                f"classes={','.join(classes)} need masks, and there are none; add "
                "masks, or remove classes and label_map"
            )
        return LabelMap({}, ())
    values = [(p.stats.mask, p.stats.values) for p in pages if p.stats.values]
    if values:
        return find_label_map(values, class_options, background=background)
    most = 1
    if options.multilabel:
        background = True  # outside all classes
        most = max((page.classes for page in pages), default=1)
    names = classes or (("background", *found.classes) if found.classes else ())
    return LabelMap({}, class_names(names, 1 + most, background=background))


def _count_classes(page: Page, label_map: LabelMap) -> Page:
    """Returns a page with the pixels of classes, from those of mask values."""
    if not page.stats.values:
        return page
    pixels: Counter[int] = Counter()
    for value, count in page.stats.values.items():
        if value in label_map.ids:
            pixels[label_map.ids[value]] += count
    return page._replace(stats=page.stats._replace(pixels=dict(sorted(pixels.items()))))


def _make_report(
    found: FoundPairs,
    surveyed: FolderSurvey,
    mapping: LabelMap,
    options: ReadOptions,
    *,
    pages: Sequence[Page],
    assigned: AssignedPages,
    issues: Sequence[Issue],
) -> DatasetReport:
    """Returns the report of all pages; `issues` are those of all files together."""
    issues = (*found.issues, *surveyed.issues, *mapping.issues, *issues)
    return DatasetReport(
        root=str(found.root),
        classes=mapping.classes,
        label_map=tuple(mapping.ids.items()),
        records=tuple(page.stats for page in pages),
        issues=diagnosis.explain_issues(issues, found, pages, options),
        decisions=(
            *mapping.decisions,
            *assigned.decisions,
            *describe_ignored(found.ignored, found.patterns),
            *summarize_notes(surveyed.issues),
        ),
        duplicates=assigned.duplicates,
        tiff_axes=options.tiff_axes,
        coloured=options.coloured,
        split_remedy=assigned.remedy,
    )


def _report_to_json(report: DatasetReport) -> dict[str, Any]:
    """Returns data.json: what was decided about the data, and the warnings."""
    return {
        "root": report.root,
        "classes": report.classes,
        "label_map": report.label_map,
        "decisions": report.decisions,
        "warnings": [i.text for i in report.issues if i.level == "warning"],
    }
