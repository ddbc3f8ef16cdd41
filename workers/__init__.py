"""What a worker process is: the asyncio pool, the runtime, and the path of a shard."""
