"""Many small networks, each trained on the same fixed records and one of its own, all of them in every step."""
