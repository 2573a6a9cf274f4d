"""Bodies that nobody would write, through everything that reads one."""
