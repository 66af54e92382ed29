"""The page table service: its RPCs, each from the part of it that does the work."""

from pagekeeper.page_table.checkpoints import Checkpoints
from pagekeeper.page_table.forks import Forks
from pagekeeper.page_table.indexes import Indexes
from pagekeeper.page_table.lifecycle import Lifecycle
from pagekeeper.page_table.mapping import Mapping, TokenizerOf
from pagekeeper.page_table.outbox import Outbox
from pagekeeper.page_table.page_history import PageHistory
from pagekeeper.page_table.queries import Queries
from pagekeeper.page_table.recalling import Recalling
from pagekeeper.page_table.representations import Representations
from pagekeeper.page_table.searching import Searching
from pagekeeper.page_table.snapshots import Snapshots
from pagekeeper.page_table.write_back import WriteBack
from pagekeeper.runtime.artifacts import ArtifactPort
from pagekeeper.runtime.clock import Clock
from pagekeeper.runtime.history import History
from pagekeeper.runtime.log.port import SessionLog
from pagekeeper.runtime.pool import Pool
from pagekeeper.runtime.sessions import Sessions


class PageTableService:
    """Implements `PageTableService` of the API, and `writeback` work.

    The service's state is caches alone, so any replica serves any session.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - what its parts need
        self,
        log: SessionLog,
        sessions: Sessions,
        history: History,
        tokenizer_of: TokenizerOf,
        artifacts: ArtifactPort,
        indexes: Indexes,
        outbox: Outbox,
        clock: Clock,
        pool: Pool,
    ) -> None:
        lifecycle = Lifecycle(sessions, log, tokenizer_of, clock)
        self.open_session = lifecycle.open_session
        self.get_session = lifecycle.get_session
        self.list_sessions = lifecycle.list_sessions
        self.configure_session = lifecycle.configure_session
        self.close_session = lifecycle.close_session
        self.delete_session = lifecycle.delete_session
        write_back = WriteBack(sessions, artifacts)
        self.fork_session = Forks(sessions, history, artifacts, write_back, clock).fork_session
        mapping = Mapping(sessions, tokenizer_of, artifacts, outbox, pool)
        self.map_pages = mapping.map_pages
        self.link_pages = mapping.link_pages
        self.annotate_page = mapping.annotate_page
        self.unmap_pages = mapping.unmap_pages
        representations = Representations(sessions, tokenizer_of, artifacts, outbox, pool)
        self.add_representations = representations.add_representations
        queries = Queries(sessions)
        self.lookup = queries.lookup
        self.get_page = queries.get_page
        self.list_pages = queries.list_pages
        self.search_pages = Searching(sessions, indexes).search_pages
        self.recall_pages = Recalling(sessions, indexes).recall_pages
        checkpoints = Checkpoints(sessions, history)
        self.create_checkpoint = checkpoints.create_checkpoint
        self.list_checkpoints = checkpoints.list_checkpoints
        self.get_checkpoint = checkpoints.get_checkpoint
        self.delete_checkpoint = checkpoints.delete_checkpoint
        self.get_page_history = PageHistory(sessions, history).get_page_history
        snapshots = Snapshots(log, sessions, artifacts, write_back)
        self.flush_session = snapshots.flush_session
        self.snapshot_session = snapshots.snapshot_session
        self.work = snapshots.work
