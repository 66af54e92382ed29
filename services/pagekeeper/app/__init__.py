"""The platform as a whole: the command line, and the one place that puts services and adapters together."""
