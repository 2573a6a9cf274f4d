"""Who says which replicas there are: a file, DNS, Kubernetes.

A source gives all that it knows each time that this changes, as entries of `replicas:`. One that
cannot be asked says nothing: what was known stays.
"""
