"""`pathcast dlq`: shows dead letters, and puts them back after a fix.

cli               the commands
dead_letters      reads dead letters, and knows which were put back
requeue           puts records back into the topics that they came from, in transactions
reread            reads messages of other systems once more, and publishes their pings
message_options   what `dlq replay --map` asks and says
"""
