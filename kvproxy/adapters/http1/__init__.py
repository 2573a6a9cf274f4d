"""HTTP/1.1 on both sides of the proxy, as asyncio Protocols around llhttp.

client side   listener -> connection -> incoming (bytes to a request), exchange (its answer)
replica side  upstream -> pool -> link (one connection, one answer at a time)
both          heads (header blocks), states (what may follow what), deadlines (who must get on)
"""
