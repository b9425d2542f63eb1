"""What is wrong with a whole set of records, though each can be read."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set

from unet_jax.arrays import IGNORE
from unet_jax.data.account import Fact, Fault, listed, merged
from unet_jax.data.folders.meaning import Meaning
from unet_jax.data.folders.splits import Plan
from unet_jax.data.folders.survey import Page
from unet_jax.data.folders.twins import Twins


def channels(pages: Sequence[Page], wanted: int) -> tuple[int, list[Fault]]:
    """The number of channels that all images are brought to, and those that cannot.

    Args:
      pages: of the set.
      wanted: 1 for grey, 3 for RGB, or any other that all have; 0 takes RGB for grey
        and RGB files together, and else what most have. RGB files that are grey in
        every pixel count as grey.
    """
    needed = Counter(
        1 if page.grey and page.fact.channels == 3 else page.fact.channels
        for page in pages
    )
    count = wanted or max(needed, key=lambda n: (needed[n], n), default=1)
    if not wanted and needed.keys() == {1, 3}:
        count = 3
    legal = {1, 3, count} if count in (1, 3) else {count}
    faults = []
    where = f"--config.data.channels={wanted} asks for" if wanted else "most have"
    for page in pages:
        if page.fact.channels not in legal:
            text = f"{page.fact.image}: {page.fact.channels} channels, where {where} "
            text += f"{count}; save it with {count}, or take it away"
            faults.append(Fault("error", "channels", text))
    odd = [p.fact.image for p in pages if p.fact.channels in legal - {count}]
    if odd and len(odd) < len(pages):
        become, other = ("RGB", "grey") if count == 3 else ("grey", "RGB")
        text = f"{listed(odd)}: {become} is made of these, as the others are; "
        text += f"--config.data.channels={4 - count} makes all of them {other}"
        faults.append(Fault("warning", "channels", text))
    return count, faults


def depth(pages: Sequence[Page]) -> Iterator[Fault]:
    """Integers of different depths, which some normalisations treat differently."""
    found = Counter(page.fact.dtype for page in pages)
    rare = found.most_common()[-1][0] if len(found) > 1 else ""
    if rare:
        names = [page.fact.image for page in pages if page.fact.dtype == rare]
        text = f"{listed(names)}: pixels are {rare}, elsewhere "
        text += f"{', '.join(kind for kind in found if kind != rare)}; normalize=unit "
        yield Fault("warning", "bit depth", text + "would scale them differently")


def pointing(pages: Sequence[Page]) -> Iterator[Fault]:
    """Volumes whose axes point to other places, so that left is right in some."""
    found = Counter(page.pointing for page in pages if page.pointing)
    for rare, _ in found.most_common()[1:]:
        names = [page.fact.image for page in pages if page.pointing == rare]
        text = f"{listed(names)}: axes point to {rare}, elsewhere to "
        text += f"{found.most_common(1)[0][0]}; a network takes them as they lie"
        yield Fault("warning", "orientation", text)


def shares(parts: Mapping[str, str], plan: Plan, given: Set[str]) -> Iterator[Fault]:
    """Splits that are far from the shares that were wished, as groups are large."""
    count = Counter(parts.values())
    if plan.folds or given & {"val", "test"}:
        return
    wanted = {"val": plan.val, "test": plan.test, "train": 1 - plan.val - plan.test}
    for name, share in wanted.items():
        goal = share * len(parts)
        if abs(count[name] - goal) > max(0.5 * goal, 2):
            text = f"{count[name]} of {len(parts)} images are in {name}, where "
            text += f"{goal:.0f} were wished: there are large groups (files of many "
            text += "pages, images that are alike) that stay together"
            yield Fault("warning", "split", text)


def leaks(facts: Sequence[Fact], found: Sequence[Twins], allow: str) -> Iterator[Fault]:
    """Images that are in two splits, or twice in one."""
    near = []
    for a, b, same in found:
        one, other = facts[a], facts[b]
        if not (one.split and other.split):
            continue
        names = [f.image if one.image != other.image else f.id for f in (one, other)]
        if one.split == other.split:
            if same:
                text = f"{names[1]}: the same pixels as {names[0]}; remove one"
                yield Fault("warning", "duplicate", text)
            continue
        pair = f"image as {names[0]} ({one.split})"
        if not same:
            near.append(f"{names[1]} ({other.split}): nearly the same {pair}")
            continue
        refused = allow != "allow" and one.image != other.image
        text = f"{names[1]} ({other.split}): the same {pair}; remove one, or what is "
        text += "measured says nothing about new images"
        text += ", or go on with --config.data.leaks=allow" if refused else ""
        yield Fault("error" if refused else "warning", "leak", text)
    if near:
        more = f", and {len(near) - 1} more like these" if near[1:] else ""
        text = f"{near[0]}{more}; what is measured says less about new images"
        yield Fault("warning", "leak", text)


def groups(facts: Sequence[Fact], names: Sequence[str], allow: str) -> Iterator[Fault]:
    """Groups of which people have put some images into one split and some in another.

    Args:
      facts: of the set.
      names: the group of each.
      allow: whether that may be.
    """
    where: dict[str, set[str]] = {}
    for fact, name in zip(facts, names, strict=True):
        where.setdefault(name, set()).add(fact.split)
    level = "warning" if allow == "allow" else "error"
    for name, in_splits in where.items():
        if len(in_splits) > 1:
            text = f"group {name!r} is in {' and '.join(sorted(in_splits))}; move its "
            text += "files into one of them, or set --config.data.leaks=allow"
            yield Fault(level, "leak", text)


def multilabel(pages: Sequence[Page], classes: int) -> Iterator[Fault]:
    """Masks of another number of classes than most, or than are named.

    Args:
      pages: of the set.
      classes: that are named, the background among them; 0 if they are not.
    """
    counts = Counter(page.classes for page in pages)
    most = max(counts, key=lambda n: (counts[n], n), default=0)
    wanted = classes - 1 if classes else most
    for page in pages:
        if page.classes != wanted:
            text = f"{page.fact.mask}: {page.classes} channels, one for each class, "
            text += f"and not {wanted}; save one for every class but the background"
            yield Fault("error", "mask channels", text)


def classes(facts: Sequence[Fact], meant: Meaning) -> Iterator[Fault]:
    """Classes that training never shows, and masks that show nothing."""
    train = [fact for fact in facts if fact.split == "train"]
    if not train or not meant.classes:
        return
    there = merged(train)
    if not any(k > 0 for k in there):
        text = f"all {len(train)} masks to train on hold nothing but "
        text += f"{meant.classes[0]}; check them, and --config.data.label_map"
        yield Fault("error", "empty masks", text)
        return
    for k, name in enumerate(meant.classes):
        if k not in there:
            elsewhere = [f.image for f in facts if k in f.pixels]
            where = (
                f"only {listed(elsewhere)} has it" if elsewhere else "no mask has it"
            )
            text = f"class {k} {name!r} is never present in training; {where}. Split "
            text += "otherwise (--config.data.seed=1), or leave it out of the classes"
            yield Fault("error" if k else "warning", "class never present", text)
    if len(there.keys() - {IGNORE}) == 1:
        only = meant.classes[max(there)]
        text = f"all masks to train on hold nothing but {only}; check them: a drawing "
        text += "on a transparent layer, say, has lost what was transparent"
        yield Fault("error", "empty masks", text)
    empty = [f.mask for f in facts if not any(k > 0 for k in f.pixels)]
    if empty:
        text = f"{listed(empty)}: nothing but {meant.classes[0]}"
        yield Fault("warning", "empty masks", text)
