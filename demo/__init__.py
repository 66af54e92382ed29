"""The demonstration behind `make run`: a conversation, a scripted model, and the replay of one with the other.

The demonstration calls the public API as any application would. No service and no library imports it.
"""
