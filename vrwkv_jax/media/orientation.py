"""Pictures as players turn them: by the display matrix of their track."""

from typing import Any

import numpy as np
from av.sidedata.sidedata import Type
from av.video.frame import VideoFrame

# Where x and y of a picture go, y pointing down: the eight that map its sides onto each other.
UPRIGHT = np.array([(1, 0), (0, 1)])
ORIENTATIONS = [
    np.diag(signs) @ sides for sides in (UPRIGHT, UPRIGHT[::-1]) for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1))
]


def orientation(frame: VideoFrame) -> np.ndarray:
    """The orientation nearest to a frame's display matrix: ``(x, y) @ orientation`` is where it is shown.

    Other angles than quarter turns, and scaling, are left out, as by most players.
    """
    try:
        side_data: Any = frame.side_data
        matrix = side_data[Type.DISPLAYMATRIX]
    except KeyError:
        return UPRIGHT
    except ValueError:  # another part of the frame's side data that this PyAV cannot name
        return np.linalg.matrix_power(np.array([(0, -1), (1, 0)]), round(frame.rotation / 90) % 4)
    places = np.frombuffer(memoryview(matrix), np.int32).reshape(3, 3)[:2, :2].astype(float)
    return max(ORIENTATIONS, key=lambda candidate: np.sum(candidate * places))  # the first where all are as near


def turned(picture: np.ndarray, orientation: np.ndarray) -> np.ndarray:
    """A picture ``H W ...`` as it is shown."""
    if turns_sides(orientation):
        picture, orientation = picture.swapaxes(0, 1), orientation[::-1]
    columns, rows = np.diag(orientation)
    return picture[::rows, ::columns]


def turns_sides(orientation: np.ndarray) -> bool:
    """Whether rows become columns."""
    return not orientation[0, 0]
