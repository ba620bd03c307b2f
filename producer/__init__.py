"""The front doors: file pipelines now, the HTTP service when its issue comes."""
