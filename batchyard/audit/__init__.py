"""The audit: every final result in an append-only record outside Redis, and who overruled it.

`stream` is what Redis holds for it, `record` what a line of it says, `ledger` where it is kept (`sql` or
`lines`), `auditor` the process that carries it from the one to the other. The light client imports none.
"""
