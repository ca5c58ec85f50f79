"""Agents: a command for each run of a task, in a fresh workspace, kept from the machine, judged when it has ended."""

from __future__ import annotations

from assay.runtime.agents.journal import RunJournal
from assay.runtime.agents.plan import Draw, rounds
from assay.runtime.agents.runner import AgentRunner, check_agent
from assay.runtime.agents.running import run_all

__all__ = ["AgentRunner", "Draw", "RunJournal", "check_agent", "rounds", "run_all"]
