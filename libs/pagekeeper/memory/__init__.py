# ruff: noqa: F403 - what each module exports is said once, in that module
"""The memory that a Python program holds in its own process, by the guide's names.

What decides is `pagekeeper.core`, which knows nothing of this package. README.md says which class is a view of what.
"""

from inspect import ismodule as _ismodule

from pagekeeper.memory.artifacts_bridge import *
from pagekeeper.memory.compressor import *
from pagekeeper.memory.context_packer import *
from pagekeeper.memory.errors import *
from pagekeeper.memory.eviction_policy import *
from pagekeeper.memory.fault_handler import *
from pagekeeper.memory.infinite_conversation import *
from pagekeeper.memory.manager import *
from pagekeeper.memory.manifest import *
from pagekeeper.memory.models import *
from pagekeeper.memory.mutation_log import *
from pagekeeper.memory.pack_cache import *
from pagekeeper.memory.page_table import *
from pagekeeper.memory.prefetcher import *
from pagekeeper.memory.protection import *
from pagekeeper.memory.saved_file import *
from pagekeeper.memory.search_handler import *
from pagekeeper.memory.session_manager import *
from pagekeeper.memory.session_memory import *
from pagekeeper.memory.summaries import *
from pagekeeper.memory.thumbnails import *
from pagekeeper.memory.tlb import *
from pagekeeper.memory.vm_prompts import *
from pagekeeper.memory.working_set import *

__all__ = [name for name, value in globals().items() if not name.startswith("_") and not _ismodule(value)]
