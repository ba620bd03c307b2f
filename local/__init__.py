"""One-machine mode: an embedded Redis, the roles as child processes, the demonstration."""
