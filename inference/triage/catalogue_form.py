"""The catalogue file's form, key by key: what an editor's schema and every check are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from inference.reading import Urgency
from inference.triage.aggregation import Rule
from inference.triage.sctid import valid_sctid

ANY: Final = "any"
_TERM: Final = {"type": "string", "pattern": "^[A-Z0-9_]{1,16}$"}


def _one_hole(template: str) -> str:
    if template.count("{}") != 1 or "{" in template.replace("{}", "") or "}" in template.replace("{}", ""):
        raise ValueError("a template holds {} exactly once and no other brace")
    return template


def _no_brace(prompt: str) -> str:
    if "{" in prompt or "}" in prompt:
        raise ValueError("a prompt holds no brace: it is put into the templates")
    return prompt


def _no_repeat(items: tuple[str, ...]) -> tuple[str, ...]:
    if twice := _twice(items):
        raise ValueError(f"{twice!r} is listed twice")
    return items


def _any_alone(terms: tuple[str, ...]) -> tuple[str, ...]:
    if ANY in terms and len(terms) > 1:
        raise ValueError("any stands alone: it already covers the other terms")
    return terms


def _twice(items: Iterable[str]) -> str:
    return next((item for item, count in Counter(items).items() if count > 1), "")


Term = Annotated[str, Field(pattern=r"^[A-Z0-9_]{1,16}$")]  # a DICOM code string
Text = Annotated[str, Field(min_length=1, max_length=300, pattern=r"\S")]
Prompt = Annotated[Text, AfterValidator(_no_brace)]
Prompts = Annotated[tuple[Prompt, ...], Field(min_length=1), AfterValidator(_no_repeat)]
Terms = Annotated[tuple[Term, ...], Field(min_length=1), AfterValidator(_no_repeat)]
TermsOrAny = Annotated[
    tuple[Annotated[str, Field(pattern=r"^([A-Z0-9_]{1,16}|any)$")], ...],
    Field(min_length=1),
    BeforeValidator(lambda given: (given,) if given == ANY else given),
    AfterValidator(_any_alone),
    AfterValidator(_no_repeat),
    WithJsonSchema({"anyOf": [{"const": ANY}, {"type": "array", "minItems": 1, "items": _TERM}]}),
]
Templates = Annotated[tuple[Annotated[Text, AfterValidator(_one_hole)], ...], Field(min_length=1), AfterValidator(_no_repeat)]
Key = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CodeFile(_Part):
    """A coded concept."""

    value: Annotated[str, Field(pattern=r"^\S{1,16}$", description="The code, in quotes.")]  # PS3.5 6.2: SH
    scheme: Annotated[Literal["SCT", "RADLEX", "DCM"], Field(description="Coding scheme designator (PS3.16 chapter 8).")]
    meaning: Annotated[str, Field(min_length=1, max_length=64, description="What the scheme calls it.")]  # PS3.5 6.2: LO

    @model_validator(mode="after")
    def _check_digit(self) -> CodeFile:
        if self.scheme == "SCT" and not valid_sctid(self.value):
            raise ValueError(f"{self.value} is no SNOMED CT identifier (its check digit is wrong)")
        return self


class AggregationFile(_Part):
    """How the probabilities of several images become the one of the study."""

    rule: Annotated[
        Rule,
        Field(
            description="max: the highest of all images. top-k mean: the mean of the k highest of all images. "
            "per series: the mean of the k highest of each series, and the highest of those."
        ),
    ] = Rule.MAX
    k: Annotated[int, Field(ge=1, le=64, description="How many images are averaged; not with rule max.")] = 3

    @model_validator(mode="after")
    def _k_is_used(self) -> AggregationFile:
        if self.rule is Rule.MAX and "k" in self.model_fields_set:
            raise ValueError("k belongs to the rules 'top-k mean' and 'per series', not to 'max'")
        return self


class EntryScopeFile(_Part):
    """Of which of the catalogue's images this one finding is asked; what is left out is as in the catalogue."""

    modalities: Annotated[Terms | None, Field(description="Modality (0008,0060).")] = None
    body_parts: Annotated[Terms | None, Field(description="Body Part Examined (0018,0015).")] = None
    views: Annotated[Terms | None, Field(description="View Position (0018,5101).")] = None


class EntryFile(_Part):
    """One finding to look for."""

    key: Annotated[Key, Field(description="Names the finding in results, routes and search; keep it stable.")]
    display: Annotated[str, Field(min_length=1, max_length=64, description="The finding for a person.")]
    code: Annotated[CodeFile, Field(description="The finding's code, as documents give it.")]
    also: Annotated[tuple[CodeFile, ...], Field(description="The same concept in other schemes, such as RADLEX.")] = ()
    site: Annotated[CodeFile | None, Field(description="Where it is: the finding site.")] = None
    urgency: Annotated[Urgency, Field(description="How soon a person must look when it is present.")]
    threshold: Annotated[float, Field(gt=0, lt=1, description="Positive at or above this probability.")]
    abstain: Annotated[
        tuple[Share, Share] | None,
        Field(description="[low, high): a probability in it is neither positive nor negative but not assessable."),
    ] = None
    aggregation: Annotated[AggregationFile | None, Field(description="Default: the catalogue's own.")] = None
    scope: Annotated[EntryScopeFile | None, Field(description="Of which images it is asked. Default: of all.")] = None
    positive: Annotated[Prompts, Field(description="Texts that say the finding is there.")]
    negative: Annotated[Prompts, Field(description="Texts that say it is not there.")]

    @model_validator(mode="after")
    def _distinct(self) -> EntryFile:
        if both := sorted(set(self.positive) & set(self.negative)):
            raise ValueError(f"the prompt {both[0]!r} is both positive and negative")
        return self

    @model_validator(mode="after")
    def _schemes(self) -> EntryFile:
        if twice := _twice([code.scheme for code in (self.code, *self.also)]):
            raise ValueError(f"'also' gives the concept in other schemes; {twice} is there twice")
        return self

    @model_validator(mode="after")
    def _band_holds_threshold(self) -> EntryFile:
        if self.abstain and not self.abstain[0] <= self.threshold <= self.abstain[1]:
            low, high = self.abstain
            raise ValueError(f"abstain [{low}, {high}] must hold the threshold {self.threshold}")
        return self


class KindFile(_Part):
    """One kind of image that may arrive under these tags."""

    key: Annotated[Key, Field(description="By which a bundle says that it was trained to know this kind.")]
    display: Annotated[str, Field(min_length=1, max_length=64, description='With its article: "a radiograph of a hand".')]
    accept: Annotated[bool, Field(description="true: the catalogue is made for it. false: it is refused.")] = False
    zero_shot: Annotated[
        bool, Field(description="false: asked only of a model whose bundle says it was trained to know this kind.")
    ] = True
    prompts: Annotated[Prompts, Field(description="Texts that describe such an image.")]


class ModelScopeFile(_Part):
    """Is the picture what its tags say? Judged by the model's softmax over kinds of image."""

    per: Annotated[
        Literal["image", "series"],
        Field(description="image: each by itself. series: all slices of a series together, by their mean."),
    ] = "image"
    refuse_stated: Annotated[
        float,
        Field(gt=0, le=1, description="Refused from this probability of all refused kinds on, where the tags are complete."),
    ] = 0.9
    refuse_unstated: Annotated[
        float, Field(gt=0, le=1, description="The same where the tags leave one out: the picture alone must say what it is.")
    ] = 0.5
    templates: Annotated[Templates, Field(description="Each prompt of a kind is put into each.")] = ("{}", "this is {}")
    kinds: Annotated[tuple[KindFile, ...], Field(min_length=2, description="At least one to accept and one to refuse.")]

    @model_validator(mode="after")
    def _kinds(self) -> ModelScopeFile:
        if twice := _twice([kind.key for kind in self.kinds]):
            raise ValueError(f"the kind {twice!r} is listed twice; a key is used once")
        if len({kind.accept for kind in self.kinds}) != 2:
            raise ValueError("kinds must name at least one with accept: true and one with accept: false")
        if twice := _twice([prompt for kind in self.kinds for prompt in kind.prompts]):
            raise ValueError(f"the prompt {twice!r} belongs to two kinds")
        return self


class ScopeFile(_Part):
    """Of which images the catalogue is asked at all."""

    modalities: Annotated[Terms, Field(description="Modality (0008,0060); everything else is refused.")]
    body_parts: Annotated[TermsOrAny, Field(description="Body Part Examined (0018,0015), or any.")]
    views: Annotated[TermsOrAny, Field(description="View Position (0018,5101), or any.")]
    accept_unstated: Annotated[
        bool, Field(description="true: an image that states no body part or view is judged all the same.")
    ] = True
    measured: Annotated[
        Literal["nothing", "chest"],
        Field(description="chest: a frontal chest film shown as a negative or upside down is refused, without a model."),
    ] = "nothing"
    model: Annotated[ModelScopeFile | None, Field(description="Left out: the tags alone decide.")] = None


class CatalogueFile(_Part):
    """A catalogue of findings: what triage asks of a study, in which words, and of which images."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$", description="As results name it.")]
    version: Annotated[str, Field(min_length=1, max_length=64, description="Raise it when you change a finding.")]
    scope: Annotated[ScopeFile, Field(description="Of which images the catalogue is asked at all.")]
    templates: Annotated[Templates, Field(description="Each prompt of a finding is put into each.")] = ("{}",)
    aggregation: Annotated[AggregationFile, Field(description="How several images become one number.")] = AggregationFile()
    findings: Annotated[tuple[EntryFile, ...], Field(min_length=1, description="What to look for, in the order of results.")]

    @model_validator(mode="after")
    def _unique(self) -> CatalogueFile:
        for key, count in Counter(entry.key for entry in self.findings).items():
            if count > 1:
                raise ValueError(f"the finding {key!r} is listed {count} times; a key is used once")
        return self


def json_schema() -> dict[str, Any]:
    """The schema for editors (JSON Schema 2020-12), made from the classes above."""
    title = "WetRead catalogue of findings"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **CatalogueFile.model_json_schema(), "title": title}
