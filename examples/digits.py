"""Strings of spoken digits for a recogniser: recordings of one speaker in a row, with gaps of faint noise between them.

`python examples/digits.py fsdd_5speakers.tar.gz` (Free Spoken Digit Dataset, CC BY-SA 4.0,
github.com/Jakobovski/free-spoken-digit-dataset: recordings/{digit}_{speaker}_{take}.wav at 8 kHz) writes the folder `digits`:
train.csv, valid.csv and test.csv with their sounds. No recording is in two of them: takes 0 to 4 are for the test, 5 to 7 for
validation. `--without theo` also keeps every recording of that speaker for the test. Then

    onebound fit ctc --config examples/digits.toml
    onebound score digits.safetensors digits/test.csv
"""

from __future__ import annotations

import argparse
import csv
import io
import tarfile
from pathlib import Path

import numpy as np
from scipy.io import wavfile

RATE = 8000
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
DIGITS, GAP, NOISE = (3, 7), (0.05, 0.35), 1e-3  # of a string: how many; of a gap: seconds, and its loudness


def recordings(path: Path) -> dict[tuple[str, str, int], np.ndarray]:
    """Samples in −1 … 1 by digit, speaker and take."""
    found = {}
    with tarfile.open(path) as tar:
        for member in tar:
            name = Path(member.name)
            file = tar.extractfile(member) if name.suffix == ".wav" else None
            if file is None:
                continue
            digit, speaker, take = name.stem.split("_")
            rate, samples = wavfile.read(io.BytesIO(file.read()))
            if rate != RATE:
                raise SystemExit(f"{path}: {name} has {rate} samples a second, expected {RATE}.")
            found[NAMES[int(digit)], speaker, int(take)] = samples.astype(np.float32) / 32768
    if not found:
        raise SystemExit(f"{path}: expected recordings/{{digit}}_{{speaker}}_{{take}}.wav, got none.")
    return found


def strings(
    sounds: dict[tuple[str, str, int], np.ndarray], n: int, rng: np.random.Generator
) -> list[tuple[str, str, np.ndarray]]:
    """n strings: speaker, text, samples. Every recording is as often in them as the others, give or take one."""
    queues = {speaker: [] for speaker in sorted({speaker for _, speaker, _ in sounds})}
    made = []
    for i in range(n):
        speaker = sorted(queues)[i % len(queues)]
        text, parts = [], [gap(rng)]
        for _ in range(rng.integers(DIGITS[0], DIGITS[1] + 1)):
            if not queues[speaker]:
                own = sorted(key for key in sounds if key[1] == speaker)
                queues[speaker] = [own[j] for j in rng.permutation(len(own))]
            key = queues[speaker].pop()
            text.append(key[0])
            parts += [sounds[key], gap(rng)]
        made.append((speaker, " ".join(text), np.concatenate(parts)))
    return made


def gap(rng: np.random.Generator) -> np.ndarray:
    """Faint noise."""
    return (NOISE * rng.standard_normal(int(RATE * rng.uniform(*GAP)))).astype(np.float32)


def write(folder: Path, name: str, made: list[tuple[str, str, np.ndarray]]) -> None:
    """The sounds, and a csv that lists them."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(("audio", "text", "speaker"))
        for i, (speaker, text, samples) in enumerate(made):
            path = f"{name}/{i:04d}.wav"
            wavfile.write(folder / path, RATE, np.round(32767 * samples.clip(-1, 1)).astype(np.int16))
            table.writerow((path, text, speaker))
    seconds = sum(len(samples) for _, _, samples in made) / RATE
    words = sum(len(text.split()) for _, text, _ in made)
    print(f"{folder / name}.csv: {len(made)} strings, {words} digits, {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0] if __doc__ else None, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("archive", type=Path)
    parser.add_argument("--out", type=Path, default=Path("digits"))
    parser.add_argument("--without", metavar="SPEAKER", help="all of this speaker's recordings are for the test alone")
    parser.add_argument("--strings", type=int, nargs=3, default=(1200, 60, 200), metavar=("TRAIN", "VALID", "TEST"))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    sounds, rng = recordings(args.archive), np.random.default_rng(args.seed)
    speakers = sorted({speaker for _, speaker, _ in sounds})
    if args.without is not None and args.without not in speakers:
        raise SystemExit(f"--without: must be one of {', '.join(speakers)}, got {args.without}.")
    parts: dict[str, dict[tuple[str, str, int], np.ndarray]] = {"train": {}, "valid": {}, "test": {}}
    for key, samples in sounds.items():
        _, speaker, take = key
        part = "test" if take < 5 else "valid" if take < 8 else "train"
        if args.without is not None:
            if speaker == args.without:
                part = "test"
            elif part == "test":
                continue
        parts[part][key] = samples
    for (name, own), n in zip(parts.items(), args.strings, strict=True):
        write(args.out, name, strings(own, n, rng))


if __name__ == "__main__":
    main()
