"""Prefill on one replica, decode on another: what each connector wants, and whether it pays."""
