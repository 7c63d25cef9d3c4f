"""Stores checkpoints: the interface `base.Store`, and its implementation for Redis and Valkey.

base           Store, MemoryStore, and the errors Fenced, ClaimLost, Evicted
redis_store    RedisStore: keys, and how much one call may carry; redis_scripts has what Redis runs
days_store     what an atlas grows from, in Redis
redis_index    which entities of a partition have a stored state, so that an evicted one is noticed
redis_client   the client, which distinguishes a refusal from a server that cannot be reached; a warning of eviction
"""
