"""The audit: is a live box locked as its spec says? `controls` is the table, `findings` the comparison."""
