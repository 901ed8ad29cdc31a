"""What an edit keeps of its source."""

from dataclasses import dataclass
from typing import Annotated, Any

from tyro.conf import arg

from vrwkv_jax.models.control import Layers
from vrwkv_jax.system.checks import Rule, at_least, between, check_fields, default_shown, distinct, flag, optional, text

_FRACTION = between(0, 1)
_FACTOR = between(-1000, 1000)


@dataclass(frozen=True)
class ControlConfig:
    """What an edit keeps of its source, which is sampled beside it; nothing, if nothing is set.

    A share counts the steps that are sampled, from the noisy end: 0.4 of 50 steps are the first 20. What names words
    of several edits' prompts holds for those edits that have them.
    """

    cross_attention: float = 0.0
    """Share of the steps in which words of both prompts keep the source's attention maps (prompt-to-prompt)."""
    cross_attention_words: tuple[str, ...] = ()
    """Other shares for single words of the edit's prompt, such as jeep=0.3."""
    replace_words: bool = False
    """A word that replaces another one takes that one's maps, too."""
    reweight: tuple[str, ...] = ()
    """Factors of the attention to words of the edit's prompt, such as snow=2."""
    self_attention: float = 0.0
    """Share of the steps in which self-attention uses the source's queries and keys."""
    self_attention_layers: tuple[str, ...] = ("up_blocks",)
    """Where in the U-Net, such as up_blocks or up_blocks/1/attentions/0."""
    features: float = 0.0
    """Share of the steps in which residual blocks give the source's features (plug-and-play)."""
    feature_layers: tuple[str, ...] = ("up_blocks/1/resnets/1",)
    """Which residual blocks."""
    mixers: float = 0.0
    """Share of the steps in which the mixers use the source's keys and receptance."""
    blend: tuple[str, ...] = ()
    """Only where attention to these words is, of either prompt, may the clip change."""
    mask: Annotated[str | None, arg(metavar="PATH", help_behavior_hint=default_shown)] = None
    """A picture or a clip: nothing changes but where it is white, or, of cut-outs opaque, of labels not 0 or black."""
    blend_threshold: float = 0.5
    """Share of the strongest attention, above the median, from which on a place belongs to the words."""
    blend_dilation: int = 1
    """Pixels of the latents by which the mask is grown."""
    blend_start: float = 0.2
    """Share of the steps before the mask is used."""

    def __post_init__(self) -> None:
        check_fields(
            self,
            cross_attention=_FRACTION,
            cross_attention_words=word_values(_FRACTION),
            replace_words=flag,
            reweight=word_values(_FACTOR),
            self_attention=_FRACTION,
            self_attention_layers=distinct(text),
            features=_FRACTION,
            feature_layers=distinct(text),
            mixers=_FRACTION,
            blend=distinct(text),
            mask=optional(text),
            blend_threshold=between(0, 1),
            blend_dilation=at_least(0),
            blend_start=_FRACTION,
        )

    @property
    def layers(self) -> Layers:
        return Layers(self.self_attention_layers, self.feature_layers)

    @property
    def is_neutral(self) -> bool:
        """Whether an edit with these controls is the same as without them."""
        shares = (self.cross_attention, self.self_attention, self.features, self.mixers)
        return not (any(shares) or self.cross_attention_words or self.reweight or self.blend)


def word_values(rule: Rule) -> Rule:
    """Texts such as ``word=0.5``, whose numbers follow ``rule``."""

    def check(values: Any) -> str | None:
        words = set[str]()
        for value in values:
            word, equals, number = str(value).rpartition("=")
            if not (equals and word.strip()):
                return f"has {value!r}, which is not of the form word=number"
            if word.strip().lower() in words:
                return f"names {word.strip()!r} twice: once is enough"
            words.add(word.strip().lower())
            try:
                complaint = rule(float(number))
            except ValueError:
                return f"has {value!r}, where {number!r} is not a number"
            if complaint:
                return f"has {value!r}, where {number} {complaint}"
        return None

    return check


def split(value: str) -> tuple[str, float]:
    """Word and number of ``word=number``."""
    word, _, number = value.rpartition("=")
    return word, float(number)
