"""The run store: records, claims, attempts, logits."""
