"""`pathcast up`: runs all that a fleet needs on one machine, as one command.

cli       the command; what starts and restarts processes is in stream/processes
run       starts servers and parts, waits for Ctrl-C, and stops them in order
parts     which commands run, with which options, and what each needs: a table
ports     chooses addresses, and checks that they are free
embedded  an embedded Kafka broker and Valkey server, for the demo and for tests, too
servers   the two of `pathcast up`, whose state stays
screen    a table on a terminal, lines elsewhere, and which lines of a log people should see
"""
