"""What is wrong with a fleet, with evidence and the exact mend.

`look` and `probe` ask replicas, `lmcache` asks LMCache; both fill `facts`. The checks read facts
and nothing else, one module for one concern; `diagnose` runs them all.
"""
