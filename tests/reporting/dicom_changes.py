"""What is done to our DICOM objects to plant a fault in them."""

from __future__ import annotations

from collections.abc import Callable

from pydicom import Dataset

from reporting.content import put


def items(ds: Dataset) -> list[Dataset]:
    below = list(ds.get("ContentSequence") or ())
    return [one for child in below for one in (child, *items(child))]


def named(ds: Dataset, value: str) -> Dataset:
    """The first item of the tree with this concept name's code value."""
    return next(one for one in items(ds) if one.ConceptNameCodeSequence[0].CodeValue == value)


def parent_of(ds: Dataset, value: str) -> Dataset:
    def holds(one: Dataset) -> bool:
        return any(child.ConceptNameCodeSequence[0].CodeValue == value for child in one.get("ContentSequence") or ())

    return next(one for one in (ds, *items(ds)) if holds(one))


def drop(ds: Dataset, value: str) -> None:
    """Remove every item of this name from the first item that has one."""
    holder = parent_of(ds, value)
    holder.ContentSequence = [one for one in holder.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue != value]


def silence(ds: Dataset) -> None:
    for one in items(ds):
        if "AI draft" in str(one.get("TextValue", "")):
            one.TextValue = "fine"


def group(ds: Dataset) -> Dataset:
    return named(ds, "125007")


def point(ds: Dataset) -> None:
    """An SCOORD of a circle with three points, below the first finding's image."""
    item = Dataset()
    put(item, RelationshipType="CONTAINS", ValueType="SCOORD", GraphicType="CIRCLE", GraphicData=[1.0, 1.0, 2.0, 2.0, 3.0, 3.0])
    item.ConceptNameCodeSequence = [group(ds).ConceptNameCodeSequence[0]]
    group(ds).ContentSequence.append(item)


def told_of_a_container(ds: Dataset) -> None:
    put(named(ds, "121071"), RelationshipType="HAS PROPERTIES")


def in_comparison(change: Callable[[Dataset], object], number: int = 0) -> Callable[[Dataset], object]:
    """Do it to the section of an earlier study."""

    def done(ds: Dataset) -> None:
        sections = [one for one in ds.ContentSequence if one.ConceptNameCodeSequence[0].CodeValue == "18834-2"]
        change(sections[number])

    return done


def also_of(study_uid: str) -> Callable[[Dataset], object]:
    return in_comparison(lambda section: put(named(section, "121018"), UID=study_uid))


def cut_short(ds: Dataset) -> None:
    ds["PixelData"].value = ds.PixelData[:-100]
