"""Recognisers at the shell: from a list of recordings to a CTC model, and what that says of other recordings."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from onebound.cli.files import check_data
from onebound.cli.progress import waiting
from onebound.cli.saved import ModelFile, load_saved, model_of, open_model_file
from onebound.cli.writing import check_outputs, fit_as_dict, print_json
from onebound.errors import InputError

TAKEN = (
    "hidden",
    "batch_size",
    "lr",
    "max_iter",
    "max_seconds",
    "tol",
    "seed",
    "checkpoint",
    "every",
    "heldout",
    "units",
)


def is_recogniser(path: str) -> bool:
    """Whether the model in a file is one of recordings."""
    from onebound.cli.options import OF_RECORDINGS

    return open_model_file(path).about["model"] in OF_RECORDINGS


def fit_recogniser(
    name: str, data: str, output: str | None, report: str | None, as_json: bool, how: dict[str, Any]
) -> None:
    """Fit a CTC model to a list of recordings, telling L and the label error rate after each pass."""
    from onebound.cli.fit import refuse_given

    refuse_given(name, *(option for option in how if option not in TAKEN and option != "algorithm"))
    if how["algorithm"] not in ("auto", "eg"):
        raise InputError(f"{name}: a network has no closed form; it takes --algorithm eg, got {how['algorithm']}.")
    check_data(data)
    check_outputs(data, {"--output": output, "--checkpoint": how["checkpoint"], "--report": report})
    hidden = how["hidden"] or (96,)
    if len(hidden) != 1:
        raise InputError(f"{name}: --hidden is the units of its one recurrent layer, one number, got {len(hidden)}.")
    import torch

    import onebound as ob
    from onebound.algorithms.plan import SEQUENCE_BATCH, SEQUENCE_PASSES
    from onebound.cli.running import checkpoint_of, continuing
    from onebound.data.audio import LogMel
    from onebound.data.recordings import Alphabet, first_rate
    from onebound.models import CTC
    from onebound.networks import FrameNetwork

    keep = checkpoint_of(how["checkpoint"], how["every"])
    rate = first_rate(data)
    features = None if rate is None else LogMel(rate)
    recordings = _read(data, features)
    heldout = None if how["heldout"] is None else _read(how["heldout"], features)
    alphabet = Alphabet.of(recordings.texts, how["units"] or "words")
    if len(alphabet.symbols) < 2:
        raise InputError(f"{data}: every text is empty, so there is nothing to recognise.")
    network = FrameNetwork(
        recordings.frames[0].shape[1],
        len(alphabet.symbols),
        hidden=hidden[0],
        generator=torch.Generator().manual_seed(how["seed"]),
    )
    model = CTC(network, len(alphabet.symbols), symbols=alphabet.symbols)
    model.about = {
        "model": name,
        "data": Path(data).name,
        "rows": len(recordings.files),
        "columns": ["audio", "text"],
        "kinds": {},
        "categories": {},
        "units": alphabet.units,
        "features": None if features is None else features.config(),
        "heldout": how["heldout"],
    }
    _refuse_short(data, recordings, alphabet, network.stride)
    climb = {key: how[key] for key in ("batch_size", "max_iter", "max_seconds", "tol") if how[key] is not None}
    chosen = None if how["lr"] is None else ob.EG("adam", lr=how["lr"])
    if chosen is not None:  # as many passes and items a step as where nothing is said
        climb = {"batch_size": SEQUENCE_BATCH, "max_iter": SEQUENCE_PASSES, "tol": 0.0} | climb
    generator = torch.Generator().manual_seed(how["seed"])
    fit = partial(
        ob.fit, model, recordings.observations(alphabet), chosen, generator=generator, checkpoint=keep, **climb
    )
    go_on = continuing(how["checkpoint"], data, output)
    shown = (recordings, Path(data).name) if heldout is None else (heldout, Path(how["heldout"]).name)
    _climb(fit, model, alphabet, heldout, Path(data).name, go_on, output, as_json, climb, report, shown)


def continue_recogniser(
    opened: ModelFile,
    data: str,
    checkpoint: str | None,
    every: float | None,
    output: str | None,
    report: str | None,
    as_json: bool,
    **climb: Any,
) -> None:
    """Go on with a stopped fit, to the bits of one that never stopped, or from a saved recogniser."""
    import torch

    import onebound as ob
    from onebound.cli.running import checkpoint_of, continuing

    keep = checkpoint_of(checkpoint, every)
    seed = climb.pop("seed")
    model = model_of(opened) if opened.is_checkpoint else load_saved(opened.path)
    model.about = opened.about
    alphabet, recordings = _read_as_fitted(opened.about, model, data)
    path = opened.about.get("heldout")
    heldout = _read_as_fitted(opened.about, model, path)[1] if path is not None and Path(path).is_file() else None
    observations = recordings.observations(alphabet)
    given = {key: value for key, value in climb.items() if value is not None}
    if opened.is_checkpoint:
        fit = partial(ob.resume, opened.path, observations, into=model, checkpoint=keep, **given)
    else:
        generator = torch.Generator().manual_seed(seed)
        fit = partial(ob.fit, model, observations, generator=generator, checkpoint=keep, **given)
    go_on = continuing(checkpoint, data, output)
    shown = (recordings, Path(data).name) if heldout is None else (heldout, Path(str(path)).name)
    _climb(fit, model, alphabet, heldout, Path(data).name, go_on, output, as_json, given, report, shown)


def _climb(
    fit: Callable[..., Any],
    model: Any,
    alphabet: Any,
    heldout: Any,
    name: str,
    go_on: str | None,
    output: str | None,
    as_json: bool,
    limits: Mapping[str, Any],
    report: str | None,
    shown: tuple[Any, str],
) -> None:
    """Fit, telling L and the label error rate after each pass; save and tell. A report shows the recordings `shown`."""
    from onebound.algorithms.plan import SEQUENCE_PASSES
    from onebound.cli.running import run

    rates: list[float] = []

    def listen(record: Any) -> None:
        if heldout is not None and record.after == "E" and record.running:
            rates.append(_error_rate(model, alphabet, heldout)[0])

    fitted = run(
        lambda callbacks: fit(callbacks=(listen, *callbacks)),
        "ctc",
        max_iter=limits.get("max_iter", SEQUENCE_PASSES),
        max_seconds=limits.get("max_seconds"),
        go_on=go_on,
        lead=lambda: f"label error rate {100 * rates[-1]:.1f} %  it" if rates else "it",
    )
    judged = {} if heldout is None else _judged(fitted.model, alphabet, heldout) | {"label_error_rates": rates}
    passes = {"passes": fitted.trace[-1].passes}
    fitted.model.about = model.about | {"fit": fitted.summary() | passes | judged}
    if output is not None:
        import onebound as ob

        ob.save(fitted.model, output)
    if report is not None:
        _write_page(report, fitted.model, alphabet, shown)
    if as_json:
        print_json(fit_as_dict("ctc", fitted) | passes | judged)
        return
    from onebound.cli.layout import say

    _show(f"{model.title()}, {name}", [*_fit_facts(fitted.model.about["fit"]), *_judged_facts(judged)])
    say(f"Saved to {output}" if output else "Nothing was saved; give -o FILE to keep the model.")
    if report is not None:
        say(f"Wrote {report}, a page for a browser.")


def _write_page(path: str, model: Any, alphabet: Any, shown: tuple[Any, str] | None) -> None:
    """The page about a recogniser, with recordings if there are any."""
    from onebound.report.recordings import Heard, write_recogniser

    about = model.about
    hop = 1.0 if about["features"] is None else about["features"]["hop"]
    heard = None if shown is None else Heard(model, alphabet, shown[0], _seconds_per_frame(model), hop, shown[1])
    subtitle = f"{about['model']} fitted to {about['data']}"
    write_recogniser(
        path, model, about.get("fit"), heard, subtitle if shown is None else f"{subtitle}, with {shown[1]}"
    )


def report_recogniser(file: str, data: str | None, page: str) -> None:
    """A page about a saved recogniser, with the recordings in `data`."""
    if data is None:
        _write_page(page, load_saved(file), None, None)
        return
    from onebound.data.recordings import has_texts

    model, alphabet, recordings = _both(file, data, need_text=has_texts(data))
    _write_page(page, model, alphabet, (recordings, Path(data).name))


def show_recogniser(file: str, as_json: bool) -> None:
    """What a saved recogniser is, and how it was fitted."""
    model = load_saved(file)
    about = model.about
    told = {key: value for key, value in about["fit"].items() if key not in ("trace", "label_error_rates")}
    if as_json:
        described = {"title": model.title(), "symbols": model.symbols, "network": model.config()["network"]}
        print_json({"model": about["model"], **described, "features": about["features"], "fit": told})
        return
    sizes = model.config()["network"] or {}
    facts = [
        ("fitted to", f"{about['rows']:,} recordings of {about['data']}"),
        ("labels", f"{len(model.symbols) - 1} {about['units']}: {' '.join(model.symbols[1:])}"),
        ("frames", _features_told(about["features"], sizes)),
        ("network", f"convolutions {sizes.get('channels')}, a bidirectional GRU of {sizes.get('hidden')}"),
        *_fit_facts(about["fit"]),
        *_judged_facts(about["fit"]),
    ]
    _show(model.title(), facts)


def score_recogniser(file: str, data: str, as_json: bool) -> None:
    """ln p(text | sound) and the label error rate on recordings with texts."""
    model, alphabet, recordings = _both(file, data)
    judged = _judged(model, alphabet, recordings)
    if as_json:
        print_json(judged)
        return
    _show(f"{model.title()} on {Path(data).name}", _judged_facts(judged))


def decode_recordings(file: str, data: str, output: str | None, beam: int) -> None:
    """What is said in each recording, with its ln p, as a table."""
    from onebound.cli.rows import write_rows

    model, alphabet, recordings = _both(file, data, need_text=False)
    found = [best[0] for best in model.decode(list(recordings.frames), beam=beam)]
    texts = [alphabet.text(one.labels.tolist()) for one in found]
    columns = {"audio": list(recordings.files), "text": texts, "log_prob": [one.log_prob for one in found]}
    write_rows([columns], output)


def align_recordings(file: str, data: str) -> tuple[list[Any], Any]:
    """Where each label is: records of a recording, its number, symbol, start and length in seconds, and confidence."""
    model, alphabet, recordings = _both(file, data)
    seconds = _seconds_per_frame(model)
    spans = []
    for file_name, one in zip(recordings.files, model.align(recordings.observations(alphabet)), strict=True):
        spans += spans_of(file_name, one, alphabet.symbols, seconds)
    return spans, seconds


def spans_of(name: str, one: Any, symbols: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """The labels of one item with their times."""
    rows = zip(one.labels.tolist(), one.start.tolist(), one.stop.tolist(), one.confidence.tolist(), strict=True)
    return [
        {
            "recording": name,
            "label": symbols[label],
            "start": round(start * seconds, 4),
            "duration": round((stop - start) * seconds, 4),
            "confidence": round(confidence, 6),
        }
        for label, start, stop, confidence in rows
    ]


def _seconds_per_frame(model: Any) -> float:
    """Of the network's frames; 1 where the recordings were frames already and nobody knows their rate."""
    features, sizes = model.about["features"], model.config()["network"] or {}
    return (1.0 if features is None else features["hop"]) * sizes.get("stride", 1)


def _read(data: str, features: Any, need_text: bool = True) -> Any:
    from onebound.data.recordings import read_recordings

    check_data(data)
    with waiting(f"reading {Path(data).name}") as say:
        return read_recordings(data, features, need_text=need_text, progress=say)


def _refuse_short(data: str, recordings: Any, alphabet: Any, stride: int) -> None:
    """InputError naming recordings whose text cannot be said in so few frames of the network, before any step."""
    short = []
    for file, frames, text in zip(recordings.files, recordings.frames, recordings.texts, strict=True):
        labels, there = alphabet.labels(text, file), -(-len(frames) // stride)
        need = len(labels) + sum(a == b for a, b in pairwise(labels))
        if need > there:
            short.append(f"{file}: {len(labels)} labels need {need} of the network's frames, and there are {there}")
    if short:
        raise InputError(
            f"{data}: {len(short)} of {len(recordings.files)} recordings are too short for their text ({'; '.join(short[:3])}"
            f"{'; …' if len(short) > 3 else ''}). Drop them or mend their texts; --units words makes fewer labels."
        )


def _both(file: str, data: str, need_text: bool = True) -> tuple[Any, Any, Any]:
    """A saved recogniser, its alphabet, and recordings read as it read those of its fit."""
    model = load_saved(file)
    return model, *_read_as_fitted(model.about, model, data, need_text)


def _read_as_fitted(about: Mapping[str, Any], model: Any, data: str, need_text: bool = True) -> tuple[Any, Any]:
    from onebound.data.audio import LogMel
    from onebound.data.recordings import Alphabet

    features = None if about["features"] is None else LogMel(**about["features"])
    return Alphabet(tuple(model.symbols), about["units"]), _read(data, features, need_text)


def _error_rate(model: Any, alphabet: Any, recordings: Any) -> tuple[float, int, int]:
    """The label error rate of the best path: edits, and labels that were said."""
    from onebound.data.recordings import errors

    wanted = [alphabet.labels(text, file) for text, file in zip(recordings.texts, recordings.files, strict=True)]
    found = model.decode(list(recordings.frames))
    wrong = sum(errors(said, best[0].labels.tolist()) for said, best in zip(wanted, found, strict=True))
    total = sum(map(len, wanted))
    return wrong / max(total, 1), wrong, total


def _judged(model: Any, alphabet: Any, recordings: Any) -> dict[str, Any]:
    import onebound as ob

    rate, wrong, total = _error_rate(model, alphabet, recordings)
    evidence = ob.bound(model, recordings.observations(alphabet)).mean()["evidence"]
    return {
        "recordings": len(recordings.files),
        "log_prob": evidence,
        "label_error_rate": rate,
        "label_errors": wrong,
        "labels": total,
    }


def _judged_facts(judged: Mapping[str, Any]) -> list[tuple[str, str]]:
    if "label_error_rate" not in judged:
        return []
    from onebound.report import numbers

    return [
        ("recordings" if "bound" not in judged else "held out", f"{judged['recordings']:,}"),
        ("ln p(text), nats each", numbers.nats(judged["log_prob"])),
        (
            "label error rate",
            f"{100 * judged['label_error_rate']:.2f} % ({judged['label_errors']:,} of {judged['labels']:,} labels)",
        ),
    ]


def _fit_facts(fit: Mapping[str, Any]) -> list[tuple[str, str]]:
    from onebound.report import numbers
    from onebound.report.sections import WHY

    return [
        ("algorithm", str(fit["algorithm"])),
        ("L = ln p(text), nats each", numbers.nats(fit["bound"])),
        ("passes over the data", numbers.count(fit["passes"])),
        ("seconds", numbers.seconds(fit["seconds"])),
        ("why it stopped", WHY.get(fit["reason"], fit["reason"])),
    ]


def _features_told(features: Mapping[str, Any] | None, sizes: Mapping[str, Any]) -> str:
    if features is None:
        return f"{sizes.get('n_features')} numbers each, as given"
    return f"{features['bands']} mel bands, {1000 * features['hop']:g} ms apart, at {features['rate']:,} Hz"


def _show(title: str, facts: Sequence[tuple[str, str]]) -> None:
    from rich.text import Text

    from onebound.cli.layout import show
    from onebound.cli.summaries import facts_grid

    show(Text(title, style="bold"), "", facts_grid(facts))
