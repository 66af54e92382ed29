# ruff: noqa: F403 - what each module exports is said once, in that module
"""Pydantic models of the guide: pages, entries, statistics, budgets, envelopes and policies."""

from pagekeeper.memory.models.budget import *
from pagekeeper.memory.models.content import *
from pagekeeper.memory.models.enums import *
from pagekeeper.memory.models.faults import *
from pagekeeper.memory.models.metrics import *
from pagekeeper.memory.models.page import *
from pagekeeper.memory.models.statistics import *
