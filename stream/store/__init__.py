"""Where checkpoints are stored: the interface `base.Store`, and Redis or Valkey behind it.

base           Store, MemoryStore, and the errors Fenced, ClaimLost, Evicted
redis_store    RedisStore: keys, scripts, and how much one call may carry
redis_index    which entities of a partition have a stored state, so that an evicted one is noticed
redis_client   the client, which tells a refusal from a server that is away
redis_memory   warns of an eviction policy that may delete states
"""
