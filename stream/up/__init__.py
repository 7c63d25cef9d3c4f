"""`pathcast up`: runs all that a fleet needs on one machine, as one command.

cli       the command
run       starts servers and parts, waits for Ctrl-C, and stops them in order
parts     which commands run, with which options, and what each needs: a table
doors     where the parts listen, and that nothing else does
keeper    keeps one part running: when it is started again, and when that is reported
child     one process: a command of ours, or a server of others
servers   the embedded broker and store, whose state stays
logs      the log files of parts, which do not grow for ever
home      the directory where everything is kept, and its lock
screen    a table on a terminal, lines elsewhere
"""
