"""Pairs (E step, M step), and the loop that climbs with them."""

from onebound.algorithms.acceleration import Squared
from onebound.algorithms.choose import Candidate, Choice, choose
from onebound.algorithms.e_step import Amortized, Argmax, EStep, Exact, PosteriorSamples
from onebound.algorithms.fit import fit
from onebound.algorithms.gaps import GapReport, gap_report
from onebound.algorithms.latent_use import LatentUse, latent_use
from onebound.algorithms.m_step import ClosedForm, Gradient, MStep
from onebound.algorithms.named import EG, EM, GEM, MCEM, NAMED, VAE, VEM, Algorithm, HardEM, OnlineEM
from onebound.algorithms.online import Online
from onebound.algorithms.plan import Plan, plan
from onebound.algorithms.result import Fit
from onebound.algorithms.stepwise import Stepwise
from onebound.algorithms.trace import Record

__all__ = [
    "EG",
    "EM",
    "GEM",
    "MCEM",
    "NAMED",
    "VAE",
    "VEM",
    "Algorithm",
    "Amortized",
    "Argmax",
    "Candidate",
    "Choice",
    "ClosedForm",
    "EStep",
    "Exact",
    "Fit",
    "GapReport",
    "Gradient",
    "HardEM",
    "LatentUse",
    "MStep",
    "Online",
    "OnlineEM",
    "Plan",
    "PosteriorSamples",
    "Record",
    "Squared",
    "Stepwise",
    "choose",
    "fit",
    "gap_report",
    "latent_use",
    "plan",
]
