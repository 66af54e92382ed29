"""What Pagekeeper costs and how well it pages: one command a published figure, each beside its baseline in the run."""
