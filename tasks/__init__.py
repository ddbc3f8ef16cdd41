"""The Celery tasks that run shards: typed, a few lines each; what they do is in `workers`."""
