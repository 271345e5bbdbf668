"""Simple music out of sums of sines: the songs of the sample library, and what is heard in its films."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RATE = 48000
"""Samples per second of everything made here."""

type Sound = NDArray[np.float64]

_MAJOR = (0, 2, 4, 5, 7, 9, 11)
_MINOR = (0, 2, 3, 5, 7, 8, 10)
_PROGRESSIONS = ((0, 4, 5, 3), (0, 5, 3, 4), (0, 3, 0, 4), (5, 3, 0, 4), (0, 2, 3, 4))


@dataclass(frozen=True, slots=True)
class Tune:
    """A little piece of music."""

    seed: int
    key: int = 57
    """MIDI number of the tonic; 57 is the A below middle C."""
    minor: bool = False
    beats_per_minute: int = 96
    partials: tuple[float, ...] = (1.0, 0.35, 0.18, 0.07)
    """How strong each harmonic is: the instrument."""

    def play(self, seconds: float) -> Sound:
        """Return the piece as stereo samples between -1 and 1, one row for each ear."""
        rng = np.random.default_rng(self.seed)
        beat = 60 / self.beats_per_minute
        progression = _PROGRESSIONS[self.seed % len(_PROGRESSIONS)]
        rhythm = rng.choice([0.5, 0.5, 1.0, 1.0, 1.5], size=64)
        sound = np.zeros((2, round(seconds * RATE)))
        at, bar = 0.0, 0
        while at < seconds:
            root = progression[bar % len(progression)]
            for step in (0, 2, 4):
                _add(sound, self._tone(root + step - 7, 4 * beat, 0.10, 0.3), at, 0.0)
            _add(sound, self._tone(root - 14, 4 * beat, 0.16, 0.1), at, 0.0)
            played, note = 0.0, 0
            while played < 4:
                length = float(rhythm[(bar * 7 + note) % 64])
                degree = root + int(rng.choice([0, 2, 4, 7, 1, 5]))
                tone = self._tone(degree, length * beat * 1.6, 0.22, 0.01)
                _add(sound, tone, at + played * beat, float(rng.uniform(-0.5, 0.5)))
                played += length
                note += 1
            at += 4 * beat
            bar += 1
        return _fade(np.tanh(sound * 1.1), seconds)

    def _tone(self, degree: int, seconds: float, loud: float, attack: float) -> Sound:
        scale = _MINOR if self.minor else _MAJOR
        octave, step = divmod(degree, 7)
        hertz = 440 * 2 ** ((self.key + 12 * (octave + 1) + scale[step] - 69) / 12)
        t = np.arange(int(seconds * RATE)) / RATE
        wave = np.zeros(len(t))
        for number, strength in enumerate(self.partials, 1):
            wave += strength * np.sin(2 * np.pi * hertz * number * t)
        envelope = np.minimum(t / attack, 1) * np.exp(-2.2 * t / seconds)
        envelope *= np.clip((seconds - t) / 0.05, 0, 1)
        return np.asarray(wave * envelope * loud)


def waves(seed: int, seconds: float) -> Sound:
    """Return the sea: noise that swells and ebbs."""
    rng = np.random.default_rng(seed)
    length = round(seconds * RATE)
    noise = rng.standard_normal((2, length + 64))
    smooth = np.cumsum(noise, axis=1)
    hush = (smooth[:, 48 : 48 + length] - smooth[:, :length]) / 48
    t = np.arange(length) / RATE
    swell = 0.35 + 0.65 * np.sin(np.pi * t / 5.3) ** 2
    return _fade(hush * swell * 0.5, seconds)


def _add(sound: Sound, tone: Sound, at: float, pan: float) -> None:
    start = round(at * RATE)
    part = tone[: max(0, sound.shape[1] - start)]
    sound[0, start : start + len(part)] += part * (1 - max(0.0, pan))
    sound[1, start : start + len(part)] += part * (1 + min(0.0, pan))


def _fade(sound: Sound, seconds: float) -> Sound:
    t = np.arange(sound.shape[1]) / RATE
    return np.asarray(sound * np.clip(np.minimum(t / 0.2, (seconds - t) / 1.0), 0, 1))
