"""The hop between workers and the placement process: a Unix socket, pipelined, batched per turn of
the loop, bounded on both sides.

server  the placement process's end: one connection a worker
link    a worker's end: keeps it connected, questions and their answers
placer  the request path's Placer in a worker; goes on alone while nobody answers
"""
