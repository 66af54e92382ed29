"""WorkingSetService: its RPCs, each from the part of it that does the work."""

from pagekeeper.runtime.history import History
from pagekeeper.runtime.sessions import Sessions
from pagekeeper.working_set.past import Past
from pagekeeper.working_set.residency import Residency
from pagekeeper.working_set.resident import ResidentPages


class WorkingSetService:
    """Implements `WorkingSetService` of the API. Stateless but for caches, so any replica serves any session."""

    def __init__(self, sessions: Sessions, history: History) -> None:
        residency = Residency(sessions, history)
        self.begin_turn = residency.begin_turn
        self.admit = residency.admit
        self.pin = residency.pin
        self.unpin = residency.unpin
        self.set_importance = residency.set_importance
        self.report_usage = residency.report_usage
        pages = ResidentPages(sessions)
        self.resident = pages.resident
        self.get_stats = pages.get_stats
        past = Past(sessions, history)
        self.context_at = past.context_at
        self.diff_context = past.diff_context
        self.restore = past.restore
        self.replay_session = past.replay_session
