"""Adapters from the training frameworks to a run: one file a host, loaded only when it is imported by name.

`from assay.track.frameworks.keras import AssayCallback` imports keras and no other framework. Every adapter takes
`run=None`: the run given, else the one this process has open, else the experiment that `assay train` named, else a
new one. Nothing here imports torch, numpy or a framework by itself.
"""
