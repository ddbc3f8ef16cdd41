"""The endpoint's other end: pooled clients, calls that fail in typed ways, retries, and replies read and checked."""
