"""What there is to see in a rendered clip, as data: things that move over a background, in a style.

There are two worlds. In the plain one (``random_scene``) flat things move over still backgrounds. The hard one
(``hard.random_hard_scene``) has textures, a camera, light that changes, things that deform and leave the picture.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

COLOURS = {  # sRGB
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (245, 220, 50),
    "green": (30, 175, 70),
    "cyan": (60, 205, 215),
    "blue": (40, 75, 215),
    "purple": (140, 55, 190),
    "pink": (245, 130, 185),
    "brown": (120, 70, 40),
    "black": (25, 25, 25),
    "white": (250, 250, 250),
}
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
BACKGROUNDS = {  # how a caption says it
    "white": "on a white background",
    "grey": "on a grey background",
    "sky": "in front of a blue sky",
    "sunset": "in front of a sunset",
    "stripes": "on yellow stripes",
    "checks": "on purple checks",
    "grass": "on grass",
    "sand": "on sand",
    "night": "at night",
}
MEAN_COLOURS = {  # about what is seen of each background
    "white": (240, 240, 240),
    "grey": (128, 128, 128),
    "sky": (140, 190, 240),
    "sunset": (185, 100, 85),
    "stripes": (225, 205, 140),
    "checks": (135, 115, 165),
    "grass": (75, 125, 55),
    "sand": (215, 185, 135),
    "night": (20, 25, 55),
}
STYLES = {"plain": "", "pixel art": ", pixel art", "sketch": ", pencil sketch", "watercolour": ", watercolour"}
SIZES = {"small ": 0.17, "": 0.21, "large ": 0.26}  # radius, in sides of the picture
MOTIONS = {  # how a caption says it
    "still": "",
    "left": " moving left",
    "right": " moving right",
    "up": " moving up",
    "down": " moving down",
    "circle": " moving in a circle",
    "bounce": " bouncing",
    "grow": " growing",
    "spin": " spinning",
}
THIN_SHAPES = ("hoop", "stick", "snowflake")
"""Of the hard world alone, as are those with textures below."""
TEXTURED_BACKGROUNDS = {
    "planks": "on wooden planks",
    "gravel": "on gravel",
    "bricks": "in front of a brick wall",
    "clouds": "in front of clouds",
    "leaves": "on fallen leaves",
}
MEAN_COLOURS_TEXTURED = {
    "planks": (173, 130, 87),
    "gravel": (118, 114, 109),
    "bricks": (166, 106, 89),
    "clouds": (161, 198, 238),
    "leaves": (119, 74, 28),
}
ALL_SHAPES = (*SHAPES, *THIN_SHAPES)
ALL_BACKGROUNDS = BACKGROUNDS | TEXTURED_BACKGROUNDS
MATERIALS = ("wooden", "furry", "speckled", "striped", "marbled")
"""Each with any number of patterns: what a thing of it looks like, its words alone don't settle."""
DEFORMATIONS = ("rigid", "squash", "wobble", "turn")
CAMERAS = ("still", "pan left", "pan right", "pan up", "zoom in", "zoom out", "shake")
LIGHTS = ("steady", "dimming", "flickering", "shadow")
LEAST_CONTRAST = 90.0  # distance in RGB between a thing and its background


_WAY, _CIRCLE = 0.3, 0.13


@dataclass(frozen=True)
class Thing:
    """A shape of one colour. ``at`` is the middle of its way, (x, y) in sides of the picture, from the top left."""

    shape: str
    colour: str
    at: tuple[float, float] = (0.5, 0.5)
    size: str = ""
    motion: str = "still"
    angle: float = 0.0  # radians, clockwise, in the first frame
    material: str | None = None  # one of MATERIALS, with the pattern of that number; None: one flat colour
    pattern: int = 0
    deformation: str = "rigid"
    way: float = _WAY  # how far a motion to one side goes, in sides of the picture

    def pose(self, along: float) -> tuple[float, float, float, float]:
        """(x, y, radius, angle) at ``along``, from 0 at the first frame to 1 at the last."""
        x, y = self.at
        radius, angle = SIZES[self.size], self.angle
        if self.motion in _DIRECTIONS:
            dx, dy = _DIRECTIONS[self.motion]
            x, y = x + dx * self.way * (along - 0.5), y + dy * self.way * (along - 0.5)
        elif self.motion == "circle":
            x, y = x + _CIRCLE * math.cos(2 * math.pi * along), y + _CIRCLE * math.sin(2 * math.pi * along)
        elif self.motion == "bounce":
            y = y + _WAY * (0.5 - abs(math.sin(2 * math.pi * along)))
        elif self.motion == "grow":
            radius *= 0.75 + 0.5 * along
        elif self.motion == "spin":
            angle += math.pi * along
        return x, y, radius, angle


_DIRECTIONS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}


@dataclass(frozen=True)
class Scene:
    """One or two things on a background. Later things cover earlier ones; ``edit`` changes the first."""

    things: tuple[Thing, ...]
    background: str
    style: str = "plain"
    pattern: int = 0  # of a background with texture: which of its many
    camera: str = "still"
    light: str = "steady"


def caption(scene: Scene, *, motion: bool = True) -> str:
    """The scene in words, such as "a furry red circle moving left on grass, watercolour".

    Camera, light, deformations and patterns have none.

    Args:
        motion: say how things move, too.
    """
    things = [
        " ".join(word for word in (f"a {thing.size}".strip(), thing.material, thing.colour, thing.shape) if word)
        + (MOTIONS[thing.motion] if motion else "")
        for thing in scene.things
    ]
    words = [_article(thing) for thing in things]
    return f"{' and '.join(words)} {ALL_BACKGROUNDS[scene.background]}{STYLES[scene.style]}"


def _article(phrase: str) -> str:
    return "an" + phrase[1:] if phrase[2] in "aeiou" else phrase


def edit(
    scene: Scene,
    *,
    colour: str | None = None,
    shape: str | None = None,
    background: str | None = None,
    style: str | None = None,
    material: str | None = None,
) -> Scene:
    """The same scene with its first thing of another colour, shape or material, or another background or style."""
    first, *others = scene.things
    first = replace(
        first, colour=colour or first.colour, shape=shape or first.shape, material=material or first.material
    )
    things = (first, *others)
    return replace(scene, things=things, background=background or scene.background, style=style or scene.style)


def stands_out(colour: str, background: str) -> bool:
    """Whether a thing of that colour can be told from that background."""
    seen = (MEAN_COLOURS | MEAN_COLOURS_TEXTURED)[background]
    return math.dist(COLOURS[colour], seen) >= LEAST_CONTRAST


def is_held_out(scene: Scene) -> bool:
    """Whether training must not see the scene: a tenth of all combinations of shape, colour and background."""
    return any(_combination(thing, scene.background) % 10 == 0 for thing in scene.things)


def _combination(thing: Thing, background: str) -> int:
    shape, behind = ALL_SHAPES.index(thing.shape), list(ALL_BACKGROUNDS).index(background)
    return shape + 3 * list(COLOURS).index(thing.colour) + 7 * behind


def random_scene(rng: np.random.Generator, *, held_out: bool = False, things: int | None = None) -> Scene:
    """A scene in which every thing stays in the picture and can be told from the background.

    Args:
        held_out: one of the combinations that training never sees, instead of one of the others.
        things: 1 or 2; by default one in four scenes has two.
    """
    while True:
        scene = _random_scene(rng, things or (2 if rng.random() < 0.25 else 1))
        if is_held_out(scene) == held_out and all(stands_out(t.colour, scene.background) for t in scene.things):
            return scene


def _random_scene(rng: np.random.Generator, things: int) -> Scene:
    style = "plain" if rng.random() < 0.6 else choice(rng, STYLES)
    background = choice(rng, BACKGROUNDS)
    if things == 1:
        return Scene((_random_thing(rng, choice(rng, SIZES), (0.0, 1.0)),), background, style)
    halves = ((0.0, 0.5), (0.5, 1.0)) if rng.random() < 0.5 else ((0.5, 1.0), (0.0, 0.5))
    return Scene(tuple(_random_thing(rng, "small ", half) for half in halves), background, style)


def _random_thing(rng: np.random.Generator, size: str, columns: tuple[float, float]) -> Thing:
    """A thing that stays between two columns of the picture."""
    narrow = columns[1] - columns[0] < 1
    motion = choice(rng, [m for m in MOTIONS if not (narrow and m in ("left", "right", "circle"))])
    angle = rng.uniform(0, 2 * math.pi) if motion == "spin" else 0.0
    thing = Thing(choice(rng, SHAPES), choice(rng, COLOURS), (0.0, 0.0), size, motion, angle)
    poses = [thing.pose(along) for along in np.linspace(0, 1, 17)]
    at = []
    for axis, (low, high) in enumerate((columns, (0.0, 1.0))):
        most = max(pose[axis] + 1.15 * pose[2] for pose in poses)  # the tips of a star
        least = min(pose[axis] - 1.15 * pose[2] for pose in poses)
        low, high = low - least, high - most
        at.append(rng.uniform(low, high) if low < high else (low + high) / 2)
    return replace(thing, at=(at[0], at[1]))


def choice(rng: np.random.Generator, options: Iterable[str]) -> str:
    options = list(options)
    return options[rng.integers(len(options))]
