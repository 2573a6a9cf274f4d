"""Model of one engine replica in virtual time: blocks, tiers, scheduler.

`run_tree` holds cached blocks and their eviction order, `dram_tier` the second tier, `sequence`
one request on its way through, `scheduler` picks the work of a step, `engine` moves time.
Public names are gathered in `loadgen.engine_model`.
"""
