"""The sources of a folder, one for each split, made of its pages."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unet_jax.data.dataset_report import total_pixels
from unet_jax.data.folders.cache import cached_loader
from unet_jax.data.folders.pair import UNLABELLED
from unet_jax.data.folders.reading import ReadOptions, load_record
from unet_jax.data.folders.survey import Page
from unet_jax.data.label_map import class_colours
from unet_jax.data.record import Record
from unet_jax.data.source import Source, subset
from unet_jax.data.splitting import SPLITS
from unet_jax.errors import prefix_errors


def make_sources(
    name: str,
    pages: Sequence[Page],
    options: ReadOptions,
    classes: tuple[str, ...],
    *,
    colours: tuple,
    background: bool,
    prefix: Path | None,
    survey: Any,
) -> dict[str, Any]:
    """Returns the source of each split; None for 'unlabelled' without such images.

    Pages with an error are left out.

    Args:
      name: the name of the data set.
      pages: the pages of all splits.
      options: how pages are read.
      classes: the names of the classes, by id.
      colours: as in `folder`.
      background: as in `folder`.
      prefix: the prefix of the cache to load the records from; None reads the files.
      survey: JSON data to store with the records.
    """
    background = background or options.multilabel
    pages = [page for page in pages if _is_loadable(page, options, len(classes))]
    load = functools.partial(_load_page, options=options)
    if prefix:
        load = cached_loader(prefix, pages, options, survey)
    whole = Source(
        name=name,
        classes=classes,
        colours=class_colours(colours, len(classes), background=background)
        if classes
        else (),
        channels=options.channels,
        length=len(pages),
        load=lambda i: load(pages[i]),
        spacing=options.spacing,
        convert=any(page.stats.channels != options.channels for page in pages),
        independent=options.multilabel,
        target_channels=options.target_channels,
        background=background,
    )
    parts: dict[str, Any] = {
        split: _select_split(whole, pages, split) for split in SPLITS
    }
    rest = _select_split(whole, pages, UNLABELLED)._replace(target_channels=0)
    return parts | {UNLABELLED: rest if rest.length else None}


def _is_loadable(page: Page, options: ReadOptions, classes: int) -> bool:
    """Returns False if the page has an error, and cannot be a record."""
    stats = page.stats
    channels = [(stats.channels, options.channels)]
    if stats.target:
        channels.append((stats.target_channels, options.target_channels))
    return (
        page.finite
        and all(a == b or {a, b} == {1, 3} for a, b in channels)
        and page.classes in (0, classes - 1)
        and stats.values.keys() <= options.ids.keys()
    )


def _load_page(page: Page, options: ReadOptions) -> Record:
    with prefix_errors(page.stats.mask or page.stats.image):
        return load_record(page.pair, page.number, page.stats.id, options)


def _select_split(whole: Source, pages: Sequence[Page], name: str) -> Source:
    """Returns the records of one split."""
    chosen = [i for i, page in enumerate(pages) if page.stats.split == name]
    part = subset(whole, chosen, f"{whole.name}/{name}")
    return part._replace(pixels=total_pixels(pages[i].stats for i in chosen) or None)
