"""The chaos run: real processes killed, stopped and restarted while jobs go through them, and every job held
to account from outside.

    pieces ──► submit ──► the yard ◄── faults, dealt by run      (processes: the yard's, and its Redis)
       │                     │
       └──► ledger ◄── watch ┘ ──► verdict, recovery ──► report

`pieces`, `faults`, `recovery` and `verdict` are pure. Nothing here is told by the yard what became of a job:
it reads what any client could read.
"""
