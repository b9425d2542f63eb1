"""What is wrong with a whole set of records, though each can be read."""

from collections import Counter
from collections.abc import Iterator, Sequence

from unet_jax.data.account import Fact, Fault, merged
from unet_jax.data.folders.meaning import Meaning
from unet_jax.data.folders.survey import Page
from unet_jax.data.folders.twins import Twins

SHOWN = 5  # names in a line about many


def channels(pages: Sequence[Page], wanted: int) -> tuple[int, list[Fault]]:
    """The number of channels that all images are brought to, and those that cannot.

    Args:
      pages: of the set.
      wanted: 1 for grey, 3 for RGB, or any other that all have; 0 takes RGB for grey
        and RGB files together, and else what most have. RGB files that are grey in
        every pixel count as grey.
    """
    needed = Counter(1 if page.grey else page.fact.channels for page in pages)
    count = wanted or max(needed, key=lambda n: (needed[n], n), default=1)
    if not wanted and needed.keys() == {1, 3}:
        count = 3
    legal = {1, 3, count} if count in (1, 3) else {count}
    faults = []
    for page in pages:
        if page.fact.channels not in legal:
            text = f"{page.fact.image}: {page.fact.channels} channels, where the others"
            text += f" have {count}; save it with as many, or set "
            fault = Fault("error", "channels", f"{text}--config.data.channels")
            faults.append(fault)
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


def leaks(facts: Sequence[Fact], found: Sequence[Twins], allow: str) -> Iterator[Fault]:
    """Images that are in two splits, or twice in one."""
    for a, b, same in found:
        one, other = facts[a], facts[b]
        if one.split == other.split:
            if same:
                text = f"{other.image}: the same pixels as {one.image}; remove one"
                yield Fault("warning", "duplicate", text)
            continue
        text = f"{other.image} ({other.split}): {'the same' if same else 'nearly the '}"
        text += f"{'' if same else 'same'} image as {one.image} ({one.split}); remove "
        text += "one, or what is measured says nothing about new images"
        if same and allow != "allow":
            text += ", or go on with --config.data.leaks=allow"
        level = "error" if same and allow != "allow" else "warning"
        yield Fault(level, "leak", text)


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
    empty = [f.mask for f in facts if not any(k > 0 for k in f.pixels)]
    if empty:
        text = f"{listed(empty)}: nothing but {meant.classes[0]}"
        yield Fault("warning", "empty masks", text)


def listed(names: Sequence[str]) -> str:
    """Some names, and how many more there are."""
    each = list(dict.fromkeys(names))
    more = f" and {len(each) - SHOWN} more" if len(each) > SHOWN else ""
    return ", ".join(each[:SHOWN]) + more
