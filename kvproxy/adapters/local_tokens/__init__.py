"""Prompts rendered and tokenised here, as the engine does it.

conversation.py turns a request into what a template is given, template.py renders it, and
local.py tokenises in a thread, going on where the turn before ended.
"""
