"""CTC: p(labels | x) = Σ over alignments z of Π_t p(z_t | x), the scores of a network; z is the latent, summed exactly.

ln p(y | x) = ln Z of the alignments of y's labels with the frames         log-softmax of the network, (T, C)
E step:       p(z | y, x), the expected uses of every class in every frame
M step:       the gradient ⟨uses, ∇ log-softmax⟩: EG. A network has no closed form, so EM is refused.

Source: Graves, Fernández, Gomez & Schmidhuber 2006, Connectionist temporal classification.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NoReturn, Self

import torch
from torch import Tensor, nn

from onebound.emissions.base import ROUNDING, Part
from onebound.errors import InputError, Unsupported, whole_number
from onebound.models.base import Latent, Model
from onebound.models.decoding import Aligned, Decoded, LabelNGram, aligned, decoded
from onebound.networks import FrameNetwork
from onebound.observations import Columns, Observations
from onebound.structures import Alignment, AlignmentPotentials

# Frames of context in a block of an evaluation.
BLOCK_FRAMES = 20_000


class CTC(Model):
    """Sequences of labels given frames, whose alignment is the latent. Data: `Observations.paired(labels, frames)`.

    `network`: a module from frames (B, T, F) to scores (B, T', n_classes), or from (frames, numbers of frames (B,)) to a pair
    (scores, numbers); in the first case an item of T frames keeps ⌈T · T' / longest⌉ of them. `blank`: the class of no label;
    labels are the others, 0 … n_classes − 1. `symbols`: what the classes are called. The frames' columns are standardised by
    the training data.

    >>> from onebound.networks import FrameNetwork
    >>> CTC(FrameNetwork(40, 11), 11).title()
    'CTC of 10 labels over FrameNetwork'
    """

    pairs_sequences = True
    deep = True
    cure_of_infeasible = "Drop them, or let the network keep more frames"
    centre: Tensor
    scale: Tensor

    def __init__(
        self,
        network: nn.Module,
        n_classes: int,
        *,
        blank: int = 0,
        symbols: Sequence[str] | None = None,
        keep_infeasible: bool = False,
    ) -> None:
        super().__init__(keep_infeasible=keep_infeasible)
        self.network = network
        self.n_classes = whole_number("CTC", "n_classes", n_classes, 2)
        self.blank = whole_number("CTC", "blank", blank, 0)
        if self.blank >= self.n_classes:
            raise InputError(f"CTC: blank must be a class, 0 … {n_classes - 1}, got {blank}.")
        if symbols is not None and len(symbols) != n_classes:
            raise InputError(f"CTC: symbols must name {n_classes} classes, the blank too, got {len(symbols)}.")
        self.symbols = None if symbols is None else tuple(map(str, symbols))
        self.resize({"n_columns": 1})
        self._two = _takes_lengths(network)
        self.eval()  # only the steps of a climb have dropout

    def resize(self, config: dict[str, Any]) -> None:
        """Room for the means and deviations of the frames' columns."""
        self.register_buffer("centre", torch.zeros(config["n_columns"], dtype=torch.float64))
        self.register_buffer("scale", torch.ones(config["n_columns"], dtype=torch.float64))

    # --- the distribution ------------------------------------------------------------------------------------------

    def latents(self) -> list[Latent]:
        """z, the alignment of labels with frames."""
        what = "the alignment of each item's labels with its frames, blanks between"
        return [Latent("z", what, self.n_classes, Alignment, True, False)]

    def parts(self) -> list[Part]:
        """The network."""
        moved = [p for p in self.network.parameters() if p.requires_grad]
        n = sum(p.numel() for p in moved)
        return [Part("network", moved, n, False, False, "the M step of network (a network) has no closed form.")]

    def scores(self, context: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """ln p(class | frame, x) of all items, one below the other, and how many frames each has.  (ΣT', C), (N,)"""
        like = next(self.network.parameters(), torch.zeros((), dtype=torch.float64))
        x = ((context.to(torch.float64) - self.centre) / self.scale).to(like)
        padded = nn.utils.rnn.pad_sequence(list(x.split(lengths.tolist())), batch_first=True)  # (B, T, F)
        out, frames = self._applied(padded, lengths)
        inside = torch.arange(out.shape[1], device=out.device) < frames.to(out.device).unsqueeze(1)
        return out[inside].log_softmax(-1), frames.cpu()

    def _applied(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """The network on padded frames; InputError naming it and the shapes where it does not fit."""
        name = type(self.network).__name__
        try:
            found = self.network(x, lengths) if self._two else self.network(x)
        except (RuntimeError, ValueError) as error:
            raise InputError(
                f"CTC: the network {name} cannot take frames of shape {tuple(x.shape)}: {str(error).splitlines()[0]}. It must "
                f"map (B, T, {x.shape[2]}) to (B, T', {self.n_classes})."
            ) from error
        out = found[0] if self._two else found
        if not isinstance(out, Tensor) or out.ndim != 3 or out.shape[::2] != (len(x), self.n_classes):
            got = tuple(out.shape) if isinstance(out, Tensor) else type(out).__name__
            raise InputError(
                f"CTC: the network {name} must return ({len(x)}, T', {self.n_classes}) for frames {tuple(x.shape)}, got {got}."
            )
        frames = found[1] if self._two else -(-lengths * out.shape[1] // max(x.shape[1], 1))
        if frames.shape != (len(x),) or bool((frames > out.shape[1]).any()):
            raise InputError(
                f"CTC: the network {name} must say how many of its {out.shape[1]} frames each of {len(x)} items has, got "
                f"{frames.tolist()[:5]}."
            )
        return out, frames

    def log_potentials(self, obs: Observations) -> AlignmentPotentials:
        """ln p(class | frame, x) with the labels to be said; nats."""
        assert obs.context is not None
        assert obs.context_lengths is not None
        assert obs.lengths is not None
        scores, frames = self.scores(obs.context, obs.context_lengths)
        return AlignmentPotentials(scores, frames, obs.y[:, 0].to(torch.int64), obs.lengths, self.blank)

    @torch.no_grad()
    def sample(  # type: ignore[override]
        self, n: int, generator: torch.Generator | None = None, context: Any = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels of n items given their frames, a list of (T, F): what is left of a class drawn for each frame; and those."""
        frames = _several(context)
        if len(frames) != n:
            raise InputError(f"CTC.sample: expected the frames (T, F) of {n} items as context, got {len(frames)}.")
        labels, classes = [], []
        for block in self._blocks(frames):
            scores, sizes = self.scores(*block)
            drawn = torch.multinomial(scores.exp(), 1, generator=generator)[:, 0]
            for z in drawn.split(sizes.tolist()):
                classes.append(z)
                merged = torch.unique_consecutive(z)
                labels.append(merged[merged != self.blank])
        return labels, classes

    # --- reading ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def decode(
        self,
        context: Any,
        *,
        beam: int = 1,
        language: LabelNGram | None = None,
        weight: float = 1.0,
        best: int = 1,
        log_priors: Any = None,
    ) -> list[list[Decoded]]:
        """The `best` label sequences of each item with their ln p(labels | x), best first.

        `context`: a list of frames (T, F), or Observations. `beam` 1: what is left of the best class of every frame; more:
        prefix beam search with so many prefixes, where `language`, an n-gram of labels, adds `weight` · ln p(labels).
        `log_priors` (C,): taken from every frame's scores, ln p(class | x) − log_priors as hybrid systems have it, so that
        what was rare in training is not rare here too; what is reported is then no probability, but the sum of these.
        """
        found = []
        for block in self._blocks(_several(context)):
            scores, sizes = self.scores(*block)
            scores = self._less_priors(scores, log_priors)
            found += [decoded(one, self.blank, beam, language, weight, best) for one in scores.split(sizes.tolist())]
        return found

    @torch.no_grad()
    def align(self, y: Any, *, log_priors: Any = None) -> list[Aligned]:
        """Where each label is on the best path, with its confidence: the mean of p(label | x, labels) over its frames.

        `log_priors` (C,): as in `decode`; taking some from the blank's scores makes labels longer.

        Frames are the network's. Items without a path raise Infeasible, as everywhere, or with `keep_infeasible` have no spans.
        """
        obs, found = self.observe(y), []
        for block in obs.blocks(self.block_rows):
            w = self.log_potentials(block)
            w = w.with_scores(self._less_priors(w.scores, log_priors))
            self.require_feasible(Alignment(w), block)
            items = w.scores.split(w.frames.tolist())
            found += [aligned(items[n], w.labels_of(n), self.blank) for n in range(block.n_items)]
        return found

    def _less_priors(self, scores: Tensor, log_priors: Any) -> Tensor:
        """Scores (T, C) less (C,)."""
        if log_priors is None:
            return scores
        given = torch.as_tensor(log_priors, dtype=scores.dtype)
        if given.shape != (self.n_classes,) or not bool(given.isfinite().all()):
            raise InputError(
                f"CTC: log_priors must be {self.n_classes} finite numbers, one a class, got shape {tuple(given.shape)}"
                f"{'' if bool(given.isfinite().all()) else ' with others'}."
            )
        return scores - given

    def _blocks(self, frames: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The items in order, about BLOCK_FRAMES frames at a time, one below the other, with their numbers of frames."""
        sizes = torch.tensor([len(x) for x in frames], dtype=torch.int64)
        which, blocks = (sizes.cumsum(0) - 1).clamp_min(0) // BLOCK_FRAMES, []
        for block in which.unique().tolist():
            kept = (which == block).nonzero().flatten().tolist()
            blocks.append((torch.cat([frames[i] for i in kept]), sizes[kept]))
            self._check_frames(*blocks[-1], first=kept[0])
        return blocks

    # --- the start ---------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, y: Any, generator: torch.Generator | None = None, how: Any = None) -> Self:
        """Standardise by the frames' columns. The network stays as it was built."""
        if how is not None:
            raise InputError(f"CTC.initialize: a network starts as it was built, so init means nothing, got {how!r}.")
        obs = self.observe(y)
        assert obs.context is not None
        x = obs.context.to(torch.float64)
        self.centre, self.scale = x.mean(0), x.std(0, correction=0)
        self.scale[self.scale <= 1e-10 * (1 + self.centre.abs())] = 1.0
        self.prepared.fill_(True)
        self.initialized.fill_(True)
        return self

    def prepare(self, columns: Columns) -> None:
        """The labels have no units."""
        self.prepared.fill_(True)

    # --- the data ----------------------------------------------------------------------------------------------------

    def check(self, obs: Observations) -> None:
        """Labels that are classes but not the blank; finite frames."""
        if obs.lengths is None or obs.context is None or obs.context_lengths is None:
            raise InputError(
                "CTC: expected labels and frames, sequences of different lengths. Write Observations.paired(labels, frames)."
            )
        if obs.n_features != 1:
            raise InputError(f"CTC: y must be one label after the other, got {obs.n_features} columns.")
        labels = obs.y[:, 0]
        bad = (labels < 0) | (labels >= self.n_classes) | (labels == self.blank) | (labels != labels.floor())
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise InputError(
                f"CTC: labels must be classes 0 … {self.n_classes - 1} other than the blank {self.blank}, got "
                f"{labels[row].item():g} at {obs.place(row)}."
            )
        self._check_frames(obs.context, obs.context_lengths, obs.number(0))

    def _check_frames(self, x: Tensor, sizes: Tensor, first: int) -> None:
        """Finite, and as wide as those of the training data. `first`: the number of the first item."""
        if len(self.centre) not in (1, x.shape[1]):
            raise InputError(
                f"CTC: expected frames of {len(self.centre)} columns, as in the training data, got {x.shape[1]}."
            )
        bad = (~x.isfinite().all(-1)).nonzero()
        if len(bad):
            row = int(bad[0])
            item = int(torch.searchsorted(sizes.cumsum(0), row, right=True))
            raise InputError(
                f"CTC: expected finite numbers in every frame, got {x[row][~x[row].isfinite()][0].item()} in frame "
                f"{row - int(sizes[:item].sum())} of item {first + item}. Mend or drop the item."
            )

    def lint(self, obs: Observations) -> list[str]:
        """What is suspicious about these data, a sentence each."""
        assert obs.lengths is not None
        assert obs.context_lengths is not None
        tight = int((obs.context_lengths < 2 * obs.lengths).sum())
        return [f"{tight} of {obs.n_items} items have fewer than two frames a label"] if tight else []

    def features(self, obs: Observations) -> NoReturn:
        """Refused: the posterior is exact."""
        raise Unsupported("CTC: p(z | y, x) is summed exactly, so no recognition network is needed. Use ob.EG().")

    @property
    def block_rows(self) -> int:
        """Frames in a block."""
        return BLOCK_FRAMES

    @property
    def rounding(self) -> float:
        """As elsewhere."""
        return ROUNDING

    def title(self) -> str:
        """Labels and network."""
        return f"CTC of {self.n_classes - 1} labels over {type(self.network).__name__}"

    # --- what a network has not --------------------------------------------------------------------------------------

    def _refuse(self, what: str) -> NoReturn:
        raise Unsupported(
            f"CTC.{what}: a network has no sufficient statistics. Use ob.EG(), whose gradient is from the data."
        )

    def statistics(self, obs: Observations, q: Any) -> NoReturn:
        """Refused."""
        self._refuse("statistics")

    def expected_log_joint_parts(self, statistics: Any) -> NoReturn:
        """Refused."""
        self._refuse("expected_log_joint")

    def maximize(self, statistics: Any, *, partial: bool = False) -> NoReturn:
        """Refused."""
        self._refuse("maximize")

    # --- the file ------------------------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """Classes, columns, and the sizes of a FrameNetwork; of a user's own only that there is one."""
        own = isinstance(self.network, FrameNetwork)
        return {
            "n_classes": self.n_classes,
            "blank": self.blank,
            "n_columns": len(self.centre),
            "symbols": None if self.symbols is None else list(self.symbols),
            "network": self.network.described if own else None,
            "dtype": str(next(self.network.parameters()).dtype).removeprefix("torch."),
            "keep_infeasible": self.keep_infeasible,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The model of these sizes; Unsupported where its network was the user's own."""
        if config["network"] is None:
            raise Unsupported(
                "CTC: a file cannot describe a network of your own. Build the model as it was and pass it as into=."
            )
        options = {k: config[k] for k in ("blank", "symbols", "keep_infeasible")}
        model = cls(FrameNetwork(**config["network"]), config["n_classes"], **options)
        if config["dtype"] == "float64":
            model.network.double()
        return model


def _takes_lengths(network: nn.Module) -> bool:
    """Whether forward takes the numbers of frames too."""
    needed = [p for p in inspect.signature(network.forward).parameters.values() if p.default is p.empty]
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in needed) >= 2


def _several(context: Any) -> list[Tensor]:
    """Frames as a list of (T, F)."""
    if isinstance(context, Observations):
        if context.context is None or context.context_lengths is None:
            raise InputError("CTC: expected observations with frames. Write Observations.paired(labels, frames).")
        return list(context.context.split(context.context_lengths.tolist()))
    if isinstance(context, Tensor) or not isinstance(context, Sequence):
        raise InputError(
            f"CTC: expected a list of frames (T, F), got {type(context).__name__}. For one item pass [frames]."
        )
    frames = [torch.as_tensor(x) for x in context]
    wrong = [tuple(x.shape) for x in frames if x.ndim != 2]
    if wrong:
        raise InputError(f"CTC: expected a list of frames (T, F), got an item of shape {wrong[0]}.")
    return frames
