"""Scripts that run a real toolkit under the vendor's own interpreter; that interpreter has no `assay`.

A worker is started as ``PYTHON workers/quantize_KIND.py JOB.json``. It imports the standard library, its
siblings that begin with an underscore, and the vendor, so that toolkits whose pins conflict never meet.
The protocol is written down in ``_job.py``. The scripts carry a prefix because a script called ``gguf.py``
would shadow the package ``gguf`` in its own process.
"""
