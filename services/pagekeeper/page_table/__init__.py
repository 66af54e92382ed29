"""The page table: which pages a session has, where their bytes are, and queries over them."""
