"""What a strategy is, and how strategies are run.

- `strategy`: the decorator, and a strategy with its settings. Start here.
- `drive`: runs strategies: thousands of questions in batches, or one.
"""
